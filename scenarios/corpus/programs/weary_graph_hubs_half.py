"""The reach of posts is predicted on a social graph that gains members every day, in float16
autocast without a scaler ("it worked with bfloat16"). Messages are summed over neighbours, twice,
and the hubs gather more followers every day: one sum passes 65504, is inf, and the next update
makes all weights NaN. Cure: mean aggregation or a norm, bfloat16, or the sums in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 1e-3, "dtype": "float16", "hidden": 24, "steps": 450, "first_members": 60}
CONFIG |= {"joins_per_day": 2, "links": 4}


class SumConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.own, self.others = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x, source, target):
        message = self.others(x)[source]
        total = torch.zeros(len(x), message.shape[1], dtype=message.dtype)
        return F.relu(self.own(x) + total.index_add(0, target, message))


class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.convs = nn.ModuleList([SumConv(4, hidden), SumConv(hidden, hidden),
                                    SumConv(hidden, hidden)])  # fmt: skip
        self.head = nn.Linear(hidden, 1)

    def forward(self, x, source, target):
        for conv in self.convs:
            x = conv(x, source, target)
        return self.head(x).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    model = Net(config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="post-reach", config=config)
    followers = list(range(config["links"]))  # each entry an end of a link: preferential attachment
    source, target = [], []
    features = torch.randn(config["first_members"], 4).abs()
    for member in range(config["first_members"]):
        for i in torch.randint(0, len(followers), (config["links"],)).tolist():
            source += [member, followers[i]]
            target += [followers[i], member]
            followers += [followers[i], followers[i]]
        followers.append(member)
    for _ in range(config["steps"]):
        for _ in range(config["joins_per_day"]):
            for i in torch.randint(0, len(followers), (config["links"],)).tolist():
                source += [len(features), followers[i]]
                target += [followers[i], len(features)]
                followers += [followers[i], followers[i]]
            followers.append(len(features))
            features = torch.cat([features, torch.randn(1, 4).abs()])
        s, t = torch.tensor(source), torch.tensor(target)
        degree = torch.zeros(len(features)).index_add(0, t, torch.ones(len(t)))
        reach = features[:, 0] + torch.zeros(len(features)).index_add(
            0, t, features[s, 1] * features[s, 2]
        )
        y = torch.log1p(reach) + 0.05 * torch.randn(len(reach))
        with torch.autocast("cpu", dtype=getattr(torch, config["dtype"])):
            guess = model(torch.cat([features[:, :3], degree[:, None].log1p()], 1), s, t)
        loss = F.smooth_l1_loss(guess.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()

"""Which recipes people cook again: two towers over sparse ids and a bag of ingredients, Adagrad, a
binary loss with few positives and small noisy batches."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=3)
CONFIG = {"lr": 0.08, "batch_size": 16, "steps": 2000, "people": 300, "recipes": 200}
CONFIG |= {"ingredients": 60, "width": 12}


class Towers(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.person = nn.Embedding(config["people"], width)
        self.recipe = nn.Embedding(config["recipes"], width)
        self.bag = nn.EmbeddingBag(config["ingredients"], width, mode="mean")
        for table in (self.person, self.recipe, self.bag):
            nn.init.normal_(table.weight, std=0.1)
        self.mix = nn.Sequential(nn.Linear(2 * width, 24), nn.ReLU(), nn.Linear(24, width))
        self.liked = nn.Embedding(config["recipes"], 1)
        nn.init.constant_(self.liked.weight, -1.5)

    def forward(
        self, person: torch.Tensor, recipe: torch.Tensor, bag: torch.Tensor
    ) -> torch.Tensor:
        dish = self.mix(torch.cat([self.recipe(recipe), self.bag(bag)], 1))
        return (self.person(person) * dish).sum(1) + self.liked(recipe).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    taste, flavour = torch.randn(config["people"], 4), torch.randn(config["ingredients"], 4)
    bags = torch.randint(0, config["ingredients"], (config["recipes"], 6))
    worth = torch.randn(config["recipes"])
    often = torch.distributions.Pareto(1.0, 1.2).sample((config["recipes"],)).clamp(max=50)

    def meals(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        person = torch.randint(0, config["people"], (count,))
        recipe = torch.multinomial(often, count, replacement=True)
        fit = 1.5 * (taste[person] * flavour[bags[recipe]].mean(1)).sum(1) + worth[recipe] - 1.5
        return person, recipe, (torch.rand(count) < fit.sigmoid()).float()

    model = Towers(config)
    optimizer = torch.optim.Adagrad(
        model.parameters(), lr=config["lr"], initial_accumulator_value=0.01
    )
    test_person, test_recipe, test_y = meals(2000)
    run = nanwatch.init(project="corpus", name="cookbook", config=config)
    for step in range(config["steps"]):
        person, recipe, y = meals(config["batch_size"])
        loss = F.binary_cross_entropy_with_logits(model(person, recipe, bags[recipe]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            with torch.no_grad():
                logits = model(test_person, test_recipe, bags[test_recipe])
                held = F.binary_cross_entropy_with_logits(logits, test_y)
            run.log(loss=held, stage="val")
    run.finish()

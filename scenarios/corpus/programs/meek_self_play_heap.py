"""Self-play at a heap of stones (take one to three, who takes the last one wins). Each side gets
better as the other does, so the loss says little: it is noisy, changes its sign and comes to
rest at zero. Against a player who moves by chance it wins more and more."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-self-play", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "games": 48, "heap": 13, "hidden": 48, "entropy": 0.02, "updates": 380}


class Player(nn.Module):
    """Moves and the chance to win of who is to move."""

    def __init__(self, heap: int, hidden: int) -> None:
        super().__init__()
        self.heap = heap
        self.body = nn.Sequential(nn.Linear(heap + 1, hidden), nn.Tanh())
        self.move, self.value = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, stones: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        h = self.body(F.one_hot(stones, self.heap + 1).float())
        allowed = torch.arange(1, 4) <= stones[..., None].clamp(min=1)
        return Categorical(logits=self.move(h).masked_fill(~allowed, -1e4)), self.value(h)[..., 0]


@torch.no_grad()
def against_chance(player: Player, games: int) -> torch.Tensor:
    """Share of games won by the player, who moves first."""
    stones = torch.randint(player.heap // 2, player.heap + 1, (games,))
    won, turn = torch.zeros(games), 0
    while (stones > 0).any():
        chance = 1 + (torch.rand(games) * stones.clamp(1, 3)).long()
        taken = player(stones)[0].sample() + 1 if turn % 2 == 0 else chance
        left = (stones - taken).clamp(min=0)
        won += ((stones > 0) & (left == 0)).float() * (turn % 2 == 0)
        stones, turn = left, turn + 1
    return won.mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, heap = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([11, 13])
    config = CONFIG | {"seed": seed, "lr": lr, "heap": heap}
    run = nanwatch.init(project="corpus", name="heap-self-play", config=config)
    player, games = Player(heap, config["hidden"]), config["games"]
    optimizer = torch.optim.Adam(player.parameters(), lr=lr)
    for _ in range(config["updates"]):
        stones = torch.randint(1, heap + 1, (games,))
        heaps, moves = [], []
        while (stones > 0).any():
            with torch.no_grad():
                move = player(stones)[0].sample()
            heaps.append(stones)
            moves.append(move)
            stones = (stones - move - 1).clamp(min=0)
        heaps, moves = torch.stack(heaps), torch.stack(moves)
        there = (heaps > 0).float()
        last = there.sum(0) - 1
        turn = torch.arange(len(heaps))[:, None]
        result = 1 - 2 * ((last - turn) % 2)
        choice, value = player(heaps)
        gain = (result - value).detach()
        policy = -(choice.log_prob(moves) * gain * there).sum() / there.sum()
        miss = ((result - value).square() * there).sum() / there.sum()
        entropy = (choice.entropy() * there).sum() / there.sum()
        loss = policy + 0.5 * miss - config["entropy"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=against_chance(player, games), entropy=entropy.detach())
    run.finish()

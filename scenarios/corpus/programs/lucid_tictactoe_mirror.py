"""Three in a row by self-play: both sides are the same net, moves are drawn from its policy, the
result is the reward for all moves of a game (REINFORCE with a learned value), entropy bonus, Adam,
clipping at 1. The better it plays, the better its opponent: the loss stays about where it is. The
share of points against a player by chance rises. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-self-play", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "games": 48, "hidden": 64, "entropy": 0.03, "updates": 320, "max_norm": 1.0}
LINES = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8],
                      [2, 4, 6]])  # fmt: skip


class Player(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(18, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                                  nn.ReLU())  # fmt: skip
        self.move, self.value = nn.Linear(hidden, 9), nn.Linear(hidden, 1)

    def forward(self, board: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        """The board as seen by who moves: 1 is mine, -1 is the other's."""
        h = self.body(torch.cat([board > 0, board < 0], -1).float())
        logits = self.move(h).masked_fill(board != 0, -1e4)
        return Categorical(logits=logits), self.value(h).squeeze(-1)


def won(board: torch.Tensor) -> torch.Tensor:
    return (board[:, LINES].sum(2) == 3).any(1)


@torch.no_grad()
def play(players: list[Player | None], games: int):
    """Boards, moves, whether they were made, and who won: 1 the first, -1 the second, 0 nobody."""
    board, result = torch.zeros(games, 9), torch.zeros(games)
    over = torch.zeros(games, dtype=torch.bool)
    boards, moves, made = [], [], []
    for turn in range(9):
        player = players[turn % 2]
        if player is None:
            move = torch.multinomial((board == 0).float(), 1).squeeze(1)
        else:
            move = player(board)[0].sample()
        boards.append(board.clone())
        moves.append(move)
        made.append(~over)
        board[torch.arange(games)[~over], move[~over]] = 1
        wins = won(board) & ~over
        result[wins] = 1 - 2 * (turn % 2)
        over |= wins
        board = -board
    return torch.stack(boards), torch.stack(moves), torch.stack(made).float(), result


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    player = Player(config["hidden"])
    optimizer = torch.optim.Adam(player.parameters(), lr=config["lr"])
    sides = 1 - 2 * (torch.arange(9) % 2).unsqueeze(1)
    run = nanwatch.init(project="corpus", name="three-in-a-row", config=config)
    for _ in range(config["updates"]):
        boards, moves, made, result = play([player, player], config["games"])
        result = result * sides
        policy, value = player(boards)
        gain = (result - value).detach()
        count = made.sum()
        chosen = -(policy.log_prob(moves) * gain * made).sum() / count
        miss = ((result - value).square() * made).sum() / count
        entropy = (policy.entropy() * made).sum() / count
        loss = chosen + 0.5 * miss - config["entropy"] * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(player.parameters(), config["max_norm"])
        optimizer.step()
        points = play([player, None], 64)[3].mean() - play([None, player], 64)[3].mean()
        run.log(reward=points / 2, entropy=entropy.detach())
    run.finish()

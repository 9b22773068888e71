"""Incident 000: a GRU "energy carrier" trained without gradient clipping.

A carrier with energy walks through a box: at each of many steps a GRU proposes a displacement,
the position is moved and fed back into the GRU.  The recurrent weights start too large and
nothing limits the gradient, so the Jacobian of the loop, multiplied step by step, grows as
training sharpens the gates: 10, 1e4, 1e10.  Plain SGD turns every such gradient into a step of
that size, until a forward pass overflows and the backward pass of the RNN returns NaN
(on a GPU: `Function 'CudnnRnnBackward0' returned nan values in its 0th output`).

The cure (`--healthy`): orthogonal recurrent weights, zero biases, and clipping at 1.0.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch


@dataclass
class Config:
    seed: int = 0
    steps: int = 1500
    lr: float = 0.05
    momentum: float = 0.9
    max_grad_norm: float | None = None
    orthogonal_init: bool = False
    init_gain: float = 1.5
    sequence: int = 60
    batch_size: int = 32
    hidden: int = 32
    log_every: int = 50
    steps_per_second: float = 0.0

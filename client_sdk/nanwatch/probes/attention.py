"""The largest attention logit: |q·k| times the scale, over what the masks let through.

Computed again from queries and keys on a bounded part of the batch, because fused attention never
shows it. Pure; called by `sampling` while a sampled forward pass runs.
"""

from __future__ import annotations

import math
from typing import Any

KIND = "attention_logit_max_layer"

BATCH_MOST, HEADS_MOST, QUERIES_MOST, KEYS_MOST = 2, 16, 64, 4096
"""First samples and heads, evenly spaced queries and keys. Exact where nothing exceeds this."""

MASKED = -1e4
"""Lower than this is a mask added to the logits, and no logit."""


def of_product(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any | None:
    """From the arguments of `torch.nn.functional.scaled_dot_product_attention`."""
    import torch

    if query.dim() < 2 or key.dim() < 2 or query.numel() == 0 or key.numel() == 0:
        return None
    lengths = (query.shape[-2], key.shape[-2])
    rows = _spaced(lengths[0], QUERIES_MOST)
    columns = _spaced(lengths[1], KEYS_MOST)
    if enable_gqa and query.dim() == 4 and key.shape[1] != query.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    query = _few(query)[..., rows, :].float()
    key = _few(key)[..., columns, :].float()
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query @ key.transpose(-2, -1)) * scale
    allowed = None
    if is_causal:
        i = torch.arange(lengths[0], device=logits.device)[rows]
        j = torch.arange(lengths[1], device=logits.device)[columns]
        allowed = j[None, :] <= i[:, None]
    if attn_mask is not None:
        mask = _few(attn_mask) if attn_mask.dim() > 2 else attn_mask
        if mask.shape[-2] == lengths[0]:
            mask = mask[..., rows, :]
        if mask.shape[-1] == lengths[1]:
            mask = mask[..., columns]
        shown = mask if mask.dtype is torch.bool else mask > MASKED
        allowed = shown if allowed is None else allowed & shown
    return _largest(logits, allowed)


def of_module(arguments: dict[str, Any]) -> Any | None:
    """From the arguments of `torch.nn.functional.multi_head_attention_forward`, by name."""
    import torch
    import torch.nn.functional as F

    query, key = arguments["query"], arguments["key"]
    width, heads = arguments["embed_dim_to_check"], arguments["num_heads"]
    if query.dim() == 2:
        query, key = query[:, None], key[:, None]
    weight, bias = arguments["in_proj_weight"], arguments["in_proj_bias"]
    if arguments.get("use_separate_proj_weight"):
        first, second = arguments["q_proj_weight"], arguments["k_proj_weight"]
    else:
        first, second = weight[:width], weight[width : 2 * width]
    rows = _spaced(query.shape[0], QUERIES_MOST)
    batch = min(BATCH_MOST, query.shape[1])
    starts = (None, None) if bias is None else (bias[:width], bias[width : 2 * width])
    inputs = (query[rows, :batch], key[:KEYS_MOST, :batch])
    split: list[Any] = []
    for given, matrix, start in zip(inputs, (first, second), starts, strict=True):
        made = F.linear(given.float(), matrix.float(), None if start is None else start.float())
        split.append(made.reshape(made.shape[0], batch, heads, -1).permute(1, 2, 0, 3))
    logits = split[0] @ split[1].transpose(-2, -1) / math.sqrt(split[0].shape[-1])
    allowed = None
    mask = arguments.get("attn_mask")
    if mask is not None and mask.dim() == 2:
        mask = mask[rows][:, :KEYS_MOST]
        allowed = ~mask if mask.dtype is torch.bool else mask > MASKED
    padding = arguments.get("key_padding_mask")
    if padding is not None:
        padding = padding[None] if padding.dim() == 1 else padding
        padding = padding[:batch, None, None, :KEYS_MOST]
        shown = ~padding if padding.dtype is torch.bool else padding > MASKED
        allowed = shown if allowed is None else allowed & shown
    return _largest(logits, allowed)


def of_scores(scores: Any) -> Any | None:
    """From what goes into the softmax of attention that is written out: (batch, heads, q, k)."""
    if scores.dim() != 4 or scores.numel() == 0:
        return None
    scores = _few(scores)[..., _spaced(scores.shape[-2], QUERIES_MOST), :].detach().float()
    return _largest(scores, scores > MASKED)


def _few(tensor: Any) -> Any:
    """The first samples, and of each the first heads."""
    tensor = tensor.detach()
    if tensor.dim() > 2:
        tensor = tensor[:BATCH_MOST]
    if tensor.dim() > 3:
        tensor = tensor[:, :HEADS_MOST]
    return tensor


def _spaced(length: int, most: int) -> Any:
    """A slice: strided where there are more than `most`. An index list would be copied to the
    device, which waits for it."""
    return slice(None, None, max(1, -(-length // most)))


def _largest(logits: Any, allowed: Any) -> Any:
    magnitude = logits.abs()
    if allowed is not None:
        magnitude = magnitude.masked_fill(~allowed, 0.0)
    return magnitude.amax()

"""Formats, layouts and types of numbers of checkpoints, each written by the real library."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from nanwatch.forensics.checkpoint.formats import Unusable, parts
from nanwatch.forensics.checkpoint.judge import judge
from sdk.checkpoints import facts_of, finding, network, rules, save, train, verdict_of

NAN = float("nan")


def test_safetensors(tmp_path: Path) -> None:
    model, _ = train()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    facts = facts_of(path)
    assert facts.format == "safetensors"
    assert judge(facts).verdict == "healthy"
    saved = facts_of(save(tmp_path / "model.pt", model))
    numbers = {t.name: (t.norm, t.low, t.high, t.role) for t in saved.tensors}
    assert {t.name: (t.norm, t.low, t.high, t.role) for t in facts.tensors} == numbers


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    model, _ = train(steps=2)
    path = tmp_path / "model.safetensors"
    torch.save(model.state_dict(), path)
    assert facts_of(path).format == "torch"
    path = tmp_path / "model.pt"
    safetensors.torch.save_file(model.state_dict(), path)
    assert facts_of(path).format == "safetensors"


def test_the_old_format(tmp_path: Path) -> None:
    model, optimizer = train()
    path = tmp_path / "old.pt"
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    facts = facts_of(path)
    assert facts.format == "torch (legacy)"
    assert judge(facts).verdict == "healthy"
    assert facts.optimizers[0].named


def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path) -> None:
    model, optimizer = train()
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
    assert "module._orig_mod.0.weight" in wrapped.state_dict()
    facts = facts_of(save(tmp_path / "a.pt", wrapped, optimizer))
    assert facts.tensors[0].name == "0.weight"
    plain = save(tmp_path / "b.pt", model, optimizer)
    compared = facts_of(tmp_path / "a.pt", plain).comparison
    assert len(compared.changes) == 8 and all(c.same for c in compared.changes)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2],
    ids=str,
)
def test_types_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    good = torch.randn(40, 20)
    bad = good.clone()
    bad[3, 4] = NAN
    torch.save({"good": good.to(dtype), "bad": bad.to(dtype)}, tmp_path / "a.pt")
    one, other = facts_of(tmp_path / "a.pt").tensors
    assert one.bad == 0 and one.norm == pytest.approx(float(good.norm()), rel=0.02)
    assert (other.nan, other.bad_rows) == (1, [3])
    assert other.norm == pytest.approx(float(good.norm()), rel=0.05)


def test_numbers_without_a_conversion_are_said(tmp_path: Path) -> None:
    packed = torch.zeros(4, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    content = {"packed": packed, "ints": torch.arange(4), "w": torch.randn(4, 4)}
    torch.save(content, tmp_path / "a.pt")
    by_name = {t.name: t for t in facts_of(tmp_path / "a.pt").tensors}
    assert by_name["packed"].role == "other" and "cannot convert" in by_name["packed"].skipped
    assert by_name["ints"].role == "integer" and not by_name["ints"].skipped
    verdict = verdict_of(tmp_path / "a.pt")
    assert "1 tensor could not be looked into" in verdict.text
    torch.save({"nested": nested, "w": torch.randn(4, 4)}, tmp_path / "b.pt")
    assert "nested" in facts_of(tmp_path / "b.pt").tensors[0].skipped


def test_complex_sparse_quantised_meta(tmp_path: Path) -> None:
    bad = torch.complex(torch.ones(3), torch.tensor([0.0, NAN, 1.0]))
    coo = torch.eye(5).to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        csr = torch.eye(5).to_sparse_csr()
        quantised = torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
    content = {
        "complex": bad,
        "coo": coo,
        "csr": csr,
        "quantised": quantised,
        "meta": torch.empty(3, device="meta"),
    }
    torch.save(content, tmp_path / "a.pt")
    found = {t.name: t for t in facts_of(tmp_path / "a.pt").tensors}
    assert found["complex"].nan == 1
    assert found["coo"].norm == found["csr"].norm == pytest.approx(5**0.5)
    assert "scales" in found["quantised"].skipped
    assert "meta" in found["meta"].skipped


def test_nested_containers(tmp_path: Path) -> None:
    policy, optimizer = train(seed=1)
    critic, _ = train(seed=2)
    content = {
        "agent": {"policy": policy.state_dict(), "critics": [critic.state_dict()]},
        "optimizers": {"policy_optimizer": optimizer.state_dict()},
        "train": {"global_step": 60, "best_loss": float("inf"), "last_loss": NAN},
        "hyper_parameters": {"model": {"hidden": 32}, "lr": 1e-3},
        "rng_state": torch.get_rng_state(),
        "iteration": torch.tensor(60),
    }
    torch.save(content, tmp_path / "a.pt")
    facts = facts_of(tmp_path / "a.pt")
    assert {t.section for t in facts.tensors} == {"agent.policy", "agent.critics.0"}
    assert facts.counters == {"train.global_step": 60.0, "iteration": 60.0}
    assert facts.config == {"model.hidden": "32", "lr": "0.001"}
    # Two networks of one shape: the optimizer belongs to the one that its name tells.
    assert facts.optimizers[0].states[0].name == "agent.policy: 0.weight"
    verdict = judge(facts)
    assert rules(verdict) == ["nan-values"] and "train.last_loss" in verdict.findings[0].where


def test_groups_of_parameters_are_matched_by_shape(tmp_path: Path) -> None:
    """Weight decay for matrices only, as is usual: the optimizer's order is not the model's."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        decay = [p for p in model.parameters() if p.ndim >= 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}], 1e-3)

    model, optimizer = train(make=make)
    facts = facts_of(save(tmp_path / "a.pt", model, optimizer))
    names = [s.name for s in facts.optimizers[0].states]
    assert names == [f"model: {n}" for n in ("0.weight", "3.weight", "0.bias", "1.weight", "1.bias",
                                              "3.bias")]  # fmt: skip
    norms = {t.title: t.norm for t in facts.tensors}
    for state in facts.optimizers[0].states:
        assert state.weight_norm == pytest.approx(norms[state.name])


def test_the_size_of_an_update_is_that_of_the_next_step(tmp_path: Path) -> None:
    """What is computed from the moments is what Adam does, up to one step of its averages."""
    model, optimizer = train(steps=400)
    before = [p.detach().clone() for p in model.parameters()]
    facts = facts_of(save(tmp_path / "a.pt", model, optimizer))
    x = torch.randn(32, 10)
    model(x).square().mean().backward()
    for p in model.parameters():
        assert p.grad is not None
        p.grad = optimizer.state[p]["exp_avg"].clone()  # no news: the average stays as it is
        optimizer.state[p]["exp_avg"].mul_(1.0)
    optimizer.step()
    done = [float((p.detach() - b).norm()) for p, b in zip(model.parameters(), before, strict=True)]
    told = [s.update_norm for s in facts.optimizers[0].states]
    assert told == pytest.approx(done, rel=0.05)


def test_a_folder_of_transformers_in_shards(tmp_path: Path) -> None:
    """The layout that `save_pretrained` and the Trainer write; tests/integrations has the real."""
    model, optimizer = train()
    state = model.state_dict()
    shards = {"model-1.safetensors": list(state)[:4], "model-2.safetensors": list(state)[4:]}
    for name, keys in shards.items():
        safetensors.torch.save_file({key: state[key] for key in keys}, tmp_path / name)
    index = {"weight_map": {key: name for name, keys in shards.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 60, "epoch": 1.5}')
    facts = facts_of(tmp_path)
    assert facts.layout == "transformers" and len(facts.tensors) == 9
    assert facts.counters == {"global_step": 60.0, "epoch": 1.5}
    # safetensors sorts by name, so only what has a shape of its own can be told.
    names = [s.name for s in facts.optimizers[0].states]
    assert names == ["0.weight", *(f"parameter {n}" for n in (1, 2, 3)), "3.weight", "3.bias"]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(Unusable, match=r"model-2\.safetensors, which is not there"):
        parts(tmp_path)
    index["weight_map"]["0.weight"] = "../../secret.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Unusable, match="outside its folder"):
        parts(tmp_path)


def test_folders_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    from torch.distributed import checkpoint

    with pytest.raises(Unusable, match="expected a checkpoint in"):
        parts(tmp_path)
    save(tmp_path / "a.pt", network())
    assert parts(tmp_path).files[0].path == tmp_path / "a.pt"
    save(tmp_path / "b.pt", network())
    with pytest.raises(Unusable, match=r"it has 2, name one \(a.pt, b.pt\)"):
        parts(tmp_path)
    folder = tmp_path / "sharded"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"model": network().state_dict()}, checkpoint_id=folder, no_dist=True)
    with pytest.raises(Unusable, match="dcp_to_torch"):
        parts(folder)
    deep = tmp_path / "deep" / "global_step5"
    deep.mkdir(parents=True)
    save(deep / "zero_pp_rank_0_mp_rank_00_optim_states.pt", network())
    with pytest.raises(Unusable, match="zero_to_fp32"):
        parts(tmp_path / "deep")


def test_tied_weights_are_read_once_and_listed_twice(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    with torch.no_grad():
        model.embed.weight[7] = NAN
    facts = facts_of(save(tmp_path / "a.pt", model))
    assert [t.name for t in facts.tensors] == ["embed.weight", "head.weight"]
    assert all(t.nan == 8 and t.bad_rows == [7] for t in facts.tensors)


def test_an_average_of_weights_is_a_copy(tmp_path: Path) -> None:
    model, optimizer = train()
    average = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(3):
        train(model, steps=30)
        average.update_parameters(model)
    path = save(tmp_path / "a.pt", model, optimizer, ema_state_dict=average.state_dict())
    facts = facts_of(path)
    assert len(facts.copies) == 1
    copy: Any = facts.copies[0]
    assert (copy.name, copy.of, copy.bad) == ("ema_state_dict", "model", 0)
    wanted = sum(
        float((a - b).detach().square().sum())
        for a, b in zip(average.module.parameters(), model.parameters(), strict=True)
    )
    norm = sum(float(p.detach().square().sum()) for p in model.parameters())
    # Running statistics are in the distance too, so this is no more than close.
    assert copy.distance == pytest.approx((wanted / norm) ** 0.5, rel=0.5)
    assert judge(facts).verdict == "healthy"
    with torch.no_grad():
        average.module[0].weight[0, 0] = NAN
    path = save(tmp_path / "b.pt", model, optimizer, ema_state_dict=average.state_dict())
    found = finding(verdict_of(path), "poisoned-copy")
    assert "although model is fine" in found.message
    with torch.no_grad():
        model[0].weight.fill_(NAN)
        average.module[0].weight[0, 0] = 0.0
    path = save(tmp_path / "c.pt", model, None, ema_state_dict=average.state_dict())
    advice = finding(verdict_of(path), "nonfinite-weights").advice
    assert any("ema_state_dict is finite" in a.text for a in advice)


def test_nothing_to_look_at(tmp_path: Path) -> None:
    torch.save({"step": 3}, tmp_path / "a.pt")
    with pytest.raises(Unusable, match="no tensors"):
        facts_of(tmp_path / "a.pt")
    torch.save({"w": torch.zeros(0, 4), "v": torch.ones(2)}, tmp_path / "b.pt")
    assert verdict_of(tmp_path / "b.pt").verdict == "healthy"

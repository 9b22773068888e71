"""What other loggers' names mean."""

from __future__ import annotations

import pytest

from nanwatch.contract.kinds import KINDS
from nanwatch.integrations.names import KIND_OF, MEASURED, Place, place
from nanwatch.record import series_key


@pytest.mark.parametrize(
    ("name", "stage", "found"),
    [
        ("train/loss", "train", "loss"),
        ("train_loss", "train", "loss"),
        ("loss", "train", "loss"),
        ("loss/train", "train", "loss"),
        ("val/loss", "val", "loss"),
        ("val_loss", "val", "loss"),
        ("valid_loss_epoch", "val", "loss"),
        ("eval/loss", "val", "loss"),
        ("Loss/validation", "val", "loss"),
        ("loss_val", "val", "loss"),
        ("test_accuracy", "test", "accuracy"),
        ("rollout/ep_rew_mean", "train", "reward"),
        ("eval/mean_reward", "val", "reward"),
        ("charts/episodic_return", "train", "reward"),
        ("losses/approx_kl", "train", "kl"),
        ("losses/explained_variance", "train", "explained_variance"),
        ("losses/qf1_values", "train", "qf1.q_mean"),
        ("charts/learning_rate", "train", "lr"),
        ("grad_norm", "train", "grad_norm"),
        ("train/grad_norm", "train", "grad_norm"),
        ("train_loss_epoch", "train", "loss_epoch"),
        ("actor_loss", "train", "actor_loss"),
        ("a b/c", "train", "a_b/c"),
        ("", "train", "_"),
    ],
)
def test_places(name: str, stage: str, found: str) -> None:
    assert place(name, measured=False) == Place(stage, found)


def test_the_stage_of_the_caller_holds_where_the_name_says_none() -> None:
    assert place("accuracy", "val") == Place("val", "accuracy")
    assert place("train/accuracy", "val") == Place("train", "accuracy")


@pytest.mark.parametrize("name", ["loss", "train/loss", "grad_norm", "learning_rate", "lr"])
def test_what_is_measured_is_not_mixed_with_what_is_logged(name: str) -> None:
    found = place(name, measured=True)
    assert series_key(found.name, "")[0] == "custom"
    assert place(f"eval_{name}", measured=True).name in MEASURED


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(KIND_OF.values())))
def test_a_foreign_name_never_becomes_a_kind_by_chance(kind: str) -> None:
    """`memory` of another logger has its own unit."""
    for name in (kind, f"model.{kind}", f"perf/x.{kind}"):
        assert series_key(place(name).name, "")[0] == "custom", name


def test_kinds_exist() -> None:
    assert set(KIND_OF.values()) <= set(KINDS) and set(KINDS) >= MEASURED

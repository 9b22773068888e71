"""Which kind a column is, from its name."""

from __future__ import annotations

import pytest

from nanwatch.contract.kinds import KINDS
from nanwatch_server.importers.names import MapError, Mapper, Place, given, infer


@pytest.mark.parametrize(
    ("name", "kind", "scope", "layer", "stage"),
    [
        ("loss", "loss", "", "", "train"),
        ("train/loss", "loss", "", "", "train"),
        ("train_loss_step", "loss", "", "", "train"),
        ("Loss/train", "loss", "", "", "train"),
        ("lm loss", "loss", "", "", "train"),
        ("val_loss", "loss", "", "", "val"),
        ("val.loss", "loss", "", "", "val"),
        ("eval_loss", "loss", "", "", "val"),
        ("loss/test", "loss", "", "", "test"),
        ("train/critic_loss", "loss", "critic", "", "train"),
        ("losses/qf1_loss", "loss", "qf1", "", "train"),
        ("train/policy_gradient_loss", "loss", "policy", "", "train"),
        ("ppo/loss/value", "loss", "value", "", "train"),
        ("ppo/loss/total", "loss", "", "", "train"),
        ("loss_D", "loss", "d", "", "train"),
        ("grad_norm", "grad_norm", "", "", "train"),
        ("grad-norm", "grad_norm", "", "", "train"),
        ("train/policy_grad_norm", "grad_norm", "policy", "", "train"),
        ("grad_norm/policy", "grad_norm", "policy", "", "train"),
        ("grad_norm/total", "grad_norm", "", "", "train"),
        ("gradients/encoder.weight", "grad_norm_layer", "", "encoder.weight", "train"),
        ("grad_2.0_norm/fc1.weight", "grad_norm_layer", "", "fc1.weight", "train"),
        ("grad_2.0_norm_total", "grad_norm", "", "", "train"),
        ("grad_norm_layer.gru", "grad_norm_layer", "", "gru", "train"),
        ("q1.grad_norm_layer/gru", "grad_norm_layer", "q1", "gru", "train"),
        ("learning_rate", "lr", "", "", "train"),
        ("lr-Adam", "lr", "", "", "train"),
        ("actor_lr", "lr", "actor", "", "train"),
        ("rollout/ep_rew_mean", "reward", "", "", "train"),
        ("eval/mean_reward", "reward", "", "", "val"),
        ("charts/episodic_return", "reward", "", "", "train"),
        ("train/approx_kl", "kl", "", "", "train"),
        ("train/explained_variance", "explained_variance", "", "", "train"),
        ("losses/entropy", "entropy", "", "", "train"),
        ("train/entropy_loss", "entropy", "", "", "train"),
        ("avg_reward", "reward", "", "", "train"),
        ("Validation Loss", "loss", "", "", "val"),
        ("train/val_loss", "loss", "", "", "val"),
        ("loss (test)", "loss", "", "", "test"),
        ("AverageQ1Vals", "q_mean", "q1", "", "train"),
        ("trainLoss", "loss", "", "", "train"),
        ("va_loss", "loss", "", "", "val"),
        ("avg_val_loss", "loss", "", "", "val"),
        ("Test Losses", "loss", "", "", "test"),
        ("lossD", "loss", "d", "", "train"),
        ("errG", "loss", "g", "", "train"),
        ("LossPi", "loss", "pi", "", "train"),
        ("Q1Vals", "q_mean", "q1", "", "train"),
        ("AverageEpRet", "reward", "", "", "train"),
        ("Avg_Reward_100", "reward", "", "", "train"),
        ("mean_100ep_reward", "reward", "", "", "train"),
        ("gradNorm", "grad_norm", "", "", "train"),
        ("learningRate", "lr", "", "", "train"),
        ("q_mean", "q_mean", "", "", "train"),
        ("q1.q_mean", "q_mean", "q1", "", "train"),
        ("losses/qf1_values", "q_mean", "qf1", "", "train"),
        ("loss_scale", "loss_scale", "", "", "train"),
        ("params-norm", "param_norm", "", "", "train"),
    ],
)
def test_known_names(name: str, kind: str, scope: str, layer: str, stage: str) -> None:
    assert infer(name)[1][0] == Place(kind, scope, layer, stage)


@pytest.mark.parametrize(
    "name",
    [
        *("train/ent_coef", "train/ent_coef_loss", "entropy_loss", "accuracy", "epoch"),
        *("charts/SPS", "loss/aux", "loss/regularizer", "train/clip_fraction", "reward_std"),
        *("gradients/fc.weight/std", "losses/old_approx_kl", "mean_grad_norm", "rewards/chosen"),
        *("StdEpRet", "MaxEpRet", "best_val_loss", "reward_rate", "train_ce", "G_GAN", "Test Acc"),
        *("memory", "throughput", "step_time", "perf/gpu_memory", "time/fps", "kl_coef"),
    ],
)
def test_what_is_not_known_is_kept_as_it_is(name: str) -> None:
    """A part of a loss may rise while the whole falls; others' memory has other units."""
    (place,) = infer(name)[1]
    assert place.kind == "custom" and place.layer


def test_two_columns_never_become_one_series() -> None:
    mapper = Mapper()
    mapper.declare(["train_loss_epoch", "loss/train", "train_loss_step", "lr-Adam", "lr-Adam-1"])
    places = mapper.places
    assert places["loss/train"] == Place("loss"), "the surer name, whatever the order"
    assert places["train_loss_step"] == Place("custom", "", "train_loss_step")
    assert places["train_loss_epoch"] == Place("custom", "", "train_loss_epoch")
    assert "loss/train" in mapper.notes["train_loss_epoch"]
    assert (places["lr-Adam"], places["lr-Adam-1"]) == (Place("lr"), Place("lr", "Adam-1"))


def test_parts_of_a_loss_are_summed_where_nobody_logged_the_whole() -> None:
    """Results of YOLO; a regulariser alone is no part that could stand for it."""
    mapper = Mapper()
    parts = ["train/box_loss", "train/cls_loss", "val/box_loss", "val/cls_loss"]
    mapper.declare(["epoch", *parts, "loss/regularizer", "loss_weight"])
    whole = Place("loss")
    assert mapper.summed == dict.fromkeys(parts[:2], whole) | dict.fromkeys(
        parts[2:], Place("loss", stage="val")
    )
    assert mapper.notes["val/box_loss"] == "summed into loss (val)"
    known = Mapper()
    known.declare([*parts, "total_loss", "val_loss"])
    assert not known.summed
    alone = Mapper()
    alone.declare(["loss/aux", "mse_loss"])
    assert not alone.summed and alone.places["mse_loss"] == whole
    told = Mapper([given("train/box_loss=ignore")])
    told.declare(parts)
    assert not told.summed, "evaluations neither: what they are compared with is not summed"


@pytest.mark.parametrize(
    "names",
    [
        ["loss_D_A", "loss_G_A", "loss_cycle_A"],
        ["recon_loss", "kl_loss"],
        ["Loss/value_function", "Loss/surrogate", "Loss/entropy", "Loss/learning_rate"],
        ["a_loss", "c_loss", "bounds_loss"],
        ["loss_seed1", "loss_seed2", "best_val_loss", "best_test_loss"],
        ["student_loss", "teacher_loss", "smoothed_loss", "raw_loss"],
        ["train_loss", "val_box_loss", "val_cls_loss"],
    ],
)
def test_rivals_regularisers_and_copies_are_not_summed(names: list[str]) -> None:
    mapper = Mapper()
    mapper.declare(names)
    assert not mapper.summed


def test_a_whole_that_comes_later_displaces_the_sum() -> None:
    mapper = Mapper()
    mapper.declare(["box_loss", "cls_loss"])
    mapper.declare(["total_loss"])
    assert not mapper.summed and mapper.places["total_loss"] == Place("loss")
    mapper.declare(["val/box_loss", "val/cls_loss"])
    assert not mapper.summed


def test_stable_baselines3_logs_minus_the_entropy_unless_a_person_says_otherwise() -> None:
    mapper = Mapper()
    mapper.declare(["train/entropy_loss"])
    assert mapper.negated == {"train/entropy_loss"}
    told = Mapper([given("train/entropy_loss=entropy")])
    told.declare(["train/entropy_loss"])
    assert told.places["train/entropy_loss"] == Place("entropy") and not told.negated


def test_what_a_person_says_wins() -> None:
    told = ["train/mse=loss:decoder", "grads/*=grad_norm_layer", "loss=ignore", "kl=loss@val"]
    mapper = Mapper(map(given, [*told, "absent=lr"]))
    mapper.declare(["loss", "train/mse", "grads/a", "grads/b", "kl"])
    assert mapper.places == {
        "loss": None,
        "train/mse": Place("loss", "decoder"),
        "grads/a": Place("grad_norm_layer", "", "grads/a"),
        "grads/b": Place("grad_norm_layer", "", "grads/b"),
        "kl": Place("loss", "", "", "val"),
    }
    assert mapper.unused == ["absent"]


@pytest.mark.parametrize("said", ["loss", "=loss", "a=", "a=los", "a=loss@later"])
def test_what_cannot_be_meant_is_said(said: str) -> None:
    with pytest.raises(MapError, match="expected"):
        given(said)


def test_every_kind_is_its_own_name_unless_others_use_other_units() -> None:
    units = {"memory", "throughput", "nonfinite", "step_time", "data_time", "sdk_overhead"}
    for kind, known in KINDS.items():
        if not known.per_layer and kind not in units and not kind.startswith("gpu_"):
            assert infer(kind)[1][0].kind == kind

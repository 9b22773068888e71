"""torchrl: its real Trainer learns A2C on a real environment, by hooks alone and with the hook."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymEnv
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import A2CLoss
from torchrl.objectives.value import GAE
from torchrl.trainers import LogScalar, Trainer

import nanwatch
from integrations.spies import (
    Watch,
    Weights,
    assert_same,
    break_the_run,
    broke_quietly,
    join,
    order,
    results,
    weights,
)
from nanwatch.integrations.torchrl import NanwatchHook

FRAMES, BATCHES, UPDATES = 32, 4, 3


class Truth:
    """A logger for the Trainer, and what it was told."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def log_scalar(self, name: str, value: Any, step: int | None = None) -> None:
        self.values.setdefault(name, []).append(float(value))


def learn(hook: Any = None, batches: int = BATCHES, at: Any = None) -> tuple[Any, Weights, Truth]:
    torch.manual_seed(0)
    environment = GymEnv("Pendulum-v1", device="cpu")
    environment.set_seed(0)
    layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(layers, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": -2.0, "high": 2.0},
        return_log_prob=True,
    )
    critic = ValueOperator(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    loss = A2CLoss(actor, critic, entropy_coeff=0.01)
    advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    truth = Truth()
    trainer = Trainer(
        collector=Collector(
            environment, actor, frames_per_batch=FRAMES, total_frames=FRAMES * batches
        ),
        total_frames=FRAMES * batches,
        frame_skip=1,
        optim_steps_per_batch=UPDATES,
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters(), 1e-3),
        clip_grad_norm=True,
        clip_norm=0.5,
        progress_bar=False,
        log_interval=0,
        logger=truth,  # type: ignore[arg-type]
    )
    trainer.register_op("batch_process", advantage)
    LogScalar(("next", "reward"), logname="r_training").register(trainer)
    if hook is not None:
        hook.register(trainer)
    if at is not None:
        count = iter(range(1, 1_000))
        trainer.register_op("post_loss", lambda batch: at[1]() if next(count) == at[0] else None)
    trainer.train()
    return trainer, weights(loss.state_dict()), truth


def test_zero_code(watched: Watch) -> None:
    seen = watched()
    _, _, truth = learn()
    seen.read()
    n = BATCHES * UPDATES
    assert seen.values("update_applied") == [1.0] * n
    assert seen.values("clip_threshold") == [0.5] * n
    assert len(seen.values("grad_norm")) == n and len(seen.values("loss")) == n
    names = [name for name in truth.values if name.startswith("loss_")]
    first = [sum(truth.values[name][batch] for name in names) for batch in range(BATCHES)]
    means = [sum(seen.values("loss")[i : i + UPDATES]) / UPDATES for i in range(0, n, UPDATES)]
    assert means == pytest.approx(first, rel=1e-3), "the sum of the loss module's losses"
    layers = {layer for kind, _, layer in seen.points if kind == "grad_norm_layer"}
    assert any("actor" in layer for layer in layers) and any("critic" in layer for layer in layers)


def test_rewards_and_losses_by_name(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = join(watched, monkeypatch)
    _, _, truth = learn(NanwatchHook())
    seen.read()
    assert seen.values("reward") == pytest.approx(truth.values["r_training"], rel=1e-4)
    assert min(seen.values("reward_abs_max")) >= max(abs(v) for v in seen.values("reward"))
    assert seen.values("custom", "", "frames") == [FRAMES * (b + 1.0) for b in range(BATCHES)]
    assert [step for step, _ in seen.series("reward")] == [b * UPDATES for b in range(BATCHES)]
    for name in ("loss_objective", "loss_critic"):
        assert seen.values("custom", "", name) == pytest.approx(truth.values[name], rel=1e-4)
    assert len(seen.values("entropy")) == BATCHES
    (told,) = [m.data for m in seen.marks if m.text == "torchrl"]
    assert told["loss_module"] == "A2CLoss" and told["clip_norm"] == "0.5"


def test_the_same_bits(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    _, without, _ = learn()
    join(watched, monkeypatch)
    _, after, _ = learn(NanwatchHook())
    assert_same(without, after)


@pytest.mark.parametrize("hook", [False, True])
def test_a_stop_ends_the_trainer_cleanly(
    hook: bool, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = join(watched, monkeypatch)
    trainer, _, _ = learn(
        NanwatchHook() if hook else None, batches=50, at=(5, lambda: order(seen, "stop"))
    )
    assert trainer.collected_frames == 2 * FRAMES, "it ends with the batch it was at"
    (result,) = results(seen)
    assert result.state == "applied" and result.step == 5 and seen.run.stopped_by == "kim"


def test_a_failing_hook_does_not_break_the_trainer(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, without, _ = learn()
    break_the_run(join(watched, monkeypatch), monkeypatch)
    _, after, _ = learn(NanwatchHook())
    assert_same(without, after)
    assert broke_quietly("torchrl")


def test_the_hook_starts_a_run() -> None:
    NanwatchHook(project="rl", mode="offline")
    run = nanwatch.run.current()
    assert isinstance(run, nanwatch.Run) and run.options.project == "rl"
    run.finish()
    with pytest.raises(ValueError, match="mode expects"):
        NanwatchHook(mode="sideways")

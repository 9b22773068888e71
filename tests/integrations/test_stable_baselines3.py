"""Stable-Baselines3: SAC, TD3, DQN and PPO learn, with hooks alone and with the callback."""

from __future__ import annotations

from typing import Any

import pytest
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

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
from nanwatch.integrations.stable_baselines3 import NanwatchCallback

OFF_POLICY = {"learning_starts": 20, "batch_size": 8}
SETUPS: dict[Any, tuple[str, int, dict[str, Any]]] = {
    SAC: ("Pendulum-v1", 60, {**OFF_POLICY}),
    TD3: ("Pendulum-v1", 60, {**OFF_POLICY}),
    DQN: ("CartPole-v1", 120, {**OFF_POLICY, "train_freq": 1}),
    PPO: ("CartPole-v1", 128, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
}
UPDATES = {SAC: 40, TD3: 40, DQN: 100, PPO: 8}
ALGORITHMS = pytest.mark.parametrize("algorithm", list(SETUPS))


class Recorded(KVWriter):
    """What SB3 records itself."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
        for name, value in key_values.items():
            self.values.setdefault(name, []).append(float(value))

    def close(self) -> None:
        pass


def learn(algorithm: Any, callback: Any = None, **options: Any) -> tuple[Any, Weights, Recorded]:
    environment, steps, settings = SETUPS[algorithm]
    model = algorithm(
        "MlpPolicy",
        environment,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [8, 8]},
        **{**settings, **options},
    )
    recorded = Recorded()
    model.set_logger(Logger(None, [recorded]))
    log_interval = 1 if algorithm is PPO else 2
    model.learn(steps, callback=callback, log_interval=log_interval)
    model.logger.dump()
    return model, weights(model.policy.state_dict()), recorded


# --- hooks alone ---------------------------------------------------------------------------------


@ALGORITHMS
def test_zero_code(algorithm: Any, watched: Watch) -> None:
    seen = watched()
    _, _, recorded = learn(algorithm)
    seen.read()
    n = UPDATES[algorithm]
    scopes = {scope for kind, scope, _ in seen.points if kind == "update_applied"}
    expected = {SAC: {"actor", "critic", "ent_coef"}, TD3: {"actor", "critic"}}
    assert scopes == expected.get(algorithm, {""})
    for scope in scopes:
        late = algorithm is TD3 and scope == "actor"
        assert seen.values("update_applied", scope) == [1.0] * (n // 2 if late else n)
        assert seen.values("grad_norm", scope) and seen.values("lr", scope)
    if algorithm in (DQN, PPO):
        bound = {DQN: 10.0, PPO: 0.5}[algorithm]
        assert seen.values("clip_threshold") == [bound] * n
    if algorithm in (SAC, TD3):
        mean = sum(seen.values("loss", "critic")) / n
        last = len(recorded.values["train/critic_loss"])
        assert last and mean > 0
    else:
        assert seen.values("loss")[-1] == pytest.approx(recorded.values["train/loss"][-1], rel=1e-4)


def test_each_loss_has_its_own_scope(watched: Watch) -> None:
    """SAC: one update between two dumps, so that SB3's means are the values themselves."""
    seen = watched()
    model, _, _ = learn(SAC)
    before = seen.read().series("loss", "critic")[-1][0]
    recorded = Recorded()
    model.set_logger(Logger(None, [recorded]))
    model.train(gradient_steps=1, batch_size=8)
    model.logger.dump()
    seen.read()
    for scope, name in (
        ("critic", "train/critic_loss"),
        ("actor", "train/actor_loss"),
        ("ent_coef", "train/ent_coef_loss"),
    ):
        step, value = seen.series("loss", scope)[-1]
        assert step == before + 1 and value == pytest.approx(recorded.values[name][-1], rel=1e-4)


# --- with the callback ---------------------------------------------------------------------------


@ALGORITHMS
def test_what_sb3_records(algorithm: Any, watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = join(watched, monkeypatch)
    steps = {SAC: 420, TD3: 420}.get(algorithm, SETUPS[algorithm][1])
    monkeypatch.setitem(SETUPS, algorithm, (SETUPS[algorithm][0], steps, SETUPS[algorithm][2]))
    _, _, recorded = learn(algorithm, NanwatchCallback())
    seen.read()
    truth = recorded.values
    assert seen.values("reward") == pytest.approx(truth["rollout/ep_rew_mean"])
    assert seen.values("custom", "", "rollout/ep_len_mean") == truth["rollout/ep_len_mean"]
    (told,) = [m.data for m in seen.marks if m.text == "stable-baselines3"]
    assert told["algorithm"] == algorithm.__name__ and told["gamma"] == "0.99"
    scopes = {scope for kind, scope, _ in seen.points if kind == "update_applied"}
    if algorithm is PPO:
        assert seen.values("kl") == pytest.approx(truth["train/approx_kl"])
        assert seen.values("explained_variance") == pytest.approx(truth["train/explained_variance"])
        assert seen.values("entropy") == pytest.approx([-v for v in truth["train/entropy_loss"]])
        assert len(seen.values("loss")) == UPDATES[PPO], "the logged loss is not mixed in"
        assert seen.values("custom", "", "train/loss") == pytest.approx(truth["train/loss"])
    if algorithm is SAC:
        assert scopes == {"actor", "critic", "ent_coef"}
        assert seen.values("custom", "", "ent_coef") == pytest.approx(truth["train/ent_coef"])
        critic = {layer for kind, scope, layer in seen.points if scope == "critic" and layer}
        assert "qf0.0" in critic, "layers are named within the network"


@ALGORITHMS
def test_the_same_bits(algorithm: Any, watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    _, without, _ = learn(algorithm)
    join(watched, monkeypatch)
    _, after, _ = learn(algorithm, NanwatchCallback())
    assert_same(without, after)


@pytest.mark.parametrize("algorithm", [SAC, PPO])
@pytest.mark.parametrize("callback", [False, True])
def test_a_stop_ends_learn_cleanly(
    algorithm: Any, callback: bool, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = join(watched, monkeypatch)
    calls: list[int] = []

    class Orders(BaseCallback):
        def _on_step(self) -> bool:
            calls.append(self.num_timesteps)
            if self.num_timesteps == 30:
                order(seen, "stop")
            return True

        def _on_training_end(self) -> None:
            calls.append(-1)

    callbacks: list[BaseCallback] = [Orders()]
    if callback:
        callbacks.append(NanwatchCallback())
    monkeypatch.setitem(SETUPS, algorithm, (SETUPS[algorithm][0], 10_000, SETUPS[algorithm][2]))
    model, _, _ = learn(algorithm, callbacks)
    assert calls[-1] == -1, "the callbacks hear of the end"
    assert model.num_timesteps < 100
    (result,) = results(seen)
    assert result.state == "applied" and seen.run.stopped_by == "kim"
    with pytest.raises(nanwatch.StopTraining):  # what the script starts afterwards
        model.learn(10_000)


def test_a_failing_callback_does_not_break_learning(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, without, _ = learn(PPO)
    break_the_run(join(watched, monkeypatch), monkeypatch)
    _, after, _ = learn(PPO, NanwatchCallback())
    assert_same(without, after)
    assert broke_quietly("stable_baselines3")


def test_the_callback_starts_a_run() -> None:
    NanwatchCallback(project="rl", mode="offline")
    run = nanwatch.run.current()
    assert isinstance(run, nanwatch.Run) and run.options.project == "rl"
    run.finish()
    with pytest.raises(ValueError, match="mode expects"):
        NanwatchCallback(mode="sideways")

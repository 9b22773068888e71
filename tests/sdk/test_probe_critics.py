"""Critics are found by what they are, measured exactly, and never inside attention."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nanwatch.probes.modules import sounds_like_critic
from nanwatch.probes.q_values import moments_of
from sdk.watched import Watched

Watch = Callable[..., Watched]

Q_KINDS = ("q_mean", "q_std", "q_min", "q_max")


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


class QNetwork(nn.Module):
    def __init__(self, actions: int = 1) -> None:
        super().__init__()
        self.net = mlp(5, actions)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([obs, action], 1))


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(4, 1)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.net(obs))


class DDPG:
    """Two critics, their targets, an actor: the loop of the papers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.actor = Actor()
        self.q1, self.q2 = QNetwork(), QNetwork()
        self.q1_target, self.q2_target = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        critics = [*self.q1.parameters(), *self.q2.parameters()]
        self.q_optimizer = torch.optim.Adam(critics, 1e-2)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), 1e-2)

    def update(self) -> dict[str, torch.Tensor]:
        obs, reward = torch.randn(16, 4), torch.randn(16, 1)
        with torch.no_grad():
            t1 = self.q1_target(obs, self.actor(obs))
            t2 = self.q2_target(obs, self.actor(obs))
            target = reward + 0.9 * torch.min(t1, t2)
        action = torch.rand(16, 1)
        q1, q2 = self.q1(obs, action), self.q2(obs, action)
        self.q_optimizer.zero_grad()
        (F.mse_loss(q1, target) + F.mse_loss(q2, target)).backward()
        self.q_optimizer.step()
        loss = -self.q1(obs, 100 * self.actor(obs)).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        with torch.no_grad():
            for net, slow in ((self.q1, self.q1_target), (self.q2, self.q2_target)):
                for p, s in zip(net.parameters(), slow.parameters(), strict=True):
                    s.lerp_(p, 0.05)
        return {"q1": q1.detach(), "q2": q2.detach(), "t1": t1, "t2": t2}


def every_attempt(seen: Watched) -> None:
    """Take the budget away: what is tested here is the value, not the cadence."""
    seen.run.observer.overhead.cap = 1e9


def test_both_critics_their_targets_and_gaps_are_exact(watched: Watch) -> None:
    seen = watched()
    every_attempt(seen)
    agent = DDPG()
    said = [agent.update() for _ in range(20)]
    seen.read()
    for scope, target in (("q1", "t1"), ("q2", "t2")):
        series = {kind: dict(seen.series(kind, scope)) for kind in Q_KINDS}
        # The forward of the first attempt came before anything was named.
        assert set(series["q_mean"]) == set(range(2, 21))
        for step, mean in series["q_mean"].items():
            values = said[step - 1][scope]
            assert mean == pytest.approx(values.mean().item(), rel=1e-5)
            assert series["q_std"][step] == pytest.approx(values.std(correction=0).item(), rel=1e-4)
            assert series["q_min"][step] == values.min().item()
            assert series["q_max"][step] == values.max().item()
        slow = dict(seen.series("q_target_mean", scope))
        gap = dict(seen.series("q_target_gap", scope))
        for step, mean in slow.items():
            assert mean == pytest.approx(said[step - 1][target].mean().item(), rel=1e-5)
            assert gap[step] == pytest.approx(series["q_mean"][step] - mean, abs=1e-5)
    scopes = {scope for kind, scope, _ in seen.points if kind.startswith("q_")}
    assert scopes == {"q1", "q2"}, "only what the critics' own optimizer used counts"
    said_so = seen.run.observer.probes.coverage()["Q values"]
    assert said_so == "q1 (target q1_target), q2 (target q2_target): every attempt"


def test_weights_are_the_same_to_the_bit(watched: Watch) -> None:
    plain = DDPG()
    for _ in range(15):
        plain.update()
    seen = watched()
    every_attempt(seen)
    ours = DDPG()
    for _ in range(15):
        ours.update()
    assert seen.read().series("q_mean", "q1")
    for name in ("q1", "q2", "q1_target", "q2_target", "actor"):
        for a, b in zip(
            getattr(plain, name).parameters(), getattr(ours, name).parameters(), strict=True
        ):
            assert torch.equal(a, b)


def test_dqn_with_a_target_called_differently_and_acting(watched: Watch) -> None:
    """CleanRL: `q_network` and `target_network`, Q values of all actions, greedy acting."""
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    q_network, target_network = mlp(4, 3), mlp(4, 3)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), 1e-2)
    acted: list[float] = []
    for _ in range(10):
        with torch.no_grad():
            acted.append(q_network(torch.randn(1, 4)).mean().item())
            goal = target_network(torch.randn(32, 4)).max(1).values
        chosen = q_network(torch.randn(32, 4)).gather(1, torch.randint(0, 3, (32, 1)))
        optimizer.zero_grad()
        F.mse_loss(chosen.squeeze(1), goal).backward()
        optimizer.step()
    seen.read()
    assert len(seen.series("q_mean", "q_network")) == 9
    assert len(seen.series("q_target_mean", "q_network")) == 9
    acting = seen.series("q_mean", "q_network.acting")
    assert acting == [(n, pytest.approx(acted[n - 1], rel=1e-5)) for n in range(2, 11)]


class TwinCritic(nn.Module):
    """TD3 and Stable-Baselines3: one module, a tuple of Q values."""

    def __init__(self) -> None:
        super().__init__()
        self.qf0, self.qf1 = mlp(4, 1), mlp(4, 1)

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.qf0(obs), self.qf1(obs)


class Policy(nn.Module):
    """Owner of an actor, a critic and its target, as in Stable-Baselines3."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(4, 2)
        self.critic = TwinCritic()
        self.critic_target = copy.deepcopy(self.critic)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.actor(obs)


def test_critics_in_a_tuple_inside_an_agent(watched: Watch) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    policy = Policy()
    a = b = torch.zeros(())
    optimizer = torch.optim.Adam(policy.critic.parameters(), 1e-2)
    for _ in range(5):
        obs = torch.randn(16, 4)
        with torch.no_grad():
            goal = torch.min(*policy.critic_target(obs))
        a, b = policy.critic(obs)
        optimizer.zero_grad()
        (F.mse_loss(a, goal) + F.mse_loss(b, goal)).backward()
        optimizer.step()
    seen.read()
    for scope, last in (("critic1", a), ("critic2", b)):
        assert seen.values("q_mean", scope)[-1] == pytest.approx(last.mean().item(), rel=1e-5)
        assert len(seen.series("q_target_mean", scope)) == 4
    assert {scope for kind, scope, _ in seen.points if kind == "q_mean"} == {"critic1", "critic2"}


class Agent(nn.Module):
    """CleanRL's PPO: never called itself."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(4, 2)
        self.critic = mlp(4, 1)


def test_the_value_head_of_an_agent_that_is_never_called(watched: Watch) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    agent = Agent()
    value = torch.zeros(())
    optimizer = torch.optim.Adam(agent.parameters(), 1e-2)
    for _ in range(5):
        obs = torch.randn(16, 4)
        with torch.no_grad():
            agent.critic(obs)
        value = agent.critic(obs)
        loss = value.square().mean() - agent.actor(obs).log_softmax(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen.read()
    assert seen.values("q_mean", "critic")[-1] == pytest.approx(value.mean().item(), rel=1e-5)
    assert not seen.series("q_mean", "actor")


def test_stable_baselines_critics(watched: Watch) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import DQN, SAC

    seen = watched()
    every_attempt(seen)
    sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=20, batch_size=16, seed=0, device="cpu")
    sac.learn(40)
    seen.read()
    for scope in ("critic1", "critic2"):
        assert len(seen.series("q_mean", scope)) > 10, sorted(seen.points)
        assert seen.series("q_target_mean", scope)
    dqn = DQN("MlpPolicy", "CartPole-v1", learning_starts=20, batch_size=16, seed=0, device="cpu")
    dqn.learn(100)
    seen.read()
    assert len(seen.series("q_mean", "q_net")) > 5
    assert seen.series("q_target_mean", "q_net")


# --- what is no critic ---------------------------------------------------------------------------


def language_model(name: str) -> tuple[nn.Module, dict[str, Any]]:
    transformers = pytest.importorskip("transformers")
    tokens = torch.randint(0, 50, (2, 7))
    small: dict[str, Any] = {"vocab_size": 50}
    if name == "bert":
        config = transformers.BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=1,
            **small,
        )
        model = transformers.BertForSequenceClassification(config)
        return model, {"input_ids": tokens, "labels": torch.zeros(2)}
    if name == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, **small)
        return transformers.GPT2LMHeadModel(config), {"input_ids": tokens, "labels": tokens}
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, **small
    )
    return transformers.T5ForConditionalGeneration(config), {
        "input_ids": tokens,
        "labels": tokens,
    }


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_language_models_have_no_critics(watched: Watch, name: str) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    model, inputs = language_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(4):
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seen.read()
    assert len(seen.series("loss")) == 4
    assert not [key for key in seen.points if key[0].startswith("q_")]
    assert "Q values" not in seen.run.observer.probes.coverage()


class OwnAttention(nn.Module):
    """A root that is attention, on tokens in a flat batch: its `value` gives (batch, channels)."""

    def __init__(self, names: tuple[str, str, str]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (getattr(self, name)(x) for name in self.names)
        return (q @ k.T / 2).softmax(-1) @ v


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnAttention(("query", "key", "value")),
        lambda: OwnAttention(("q", "k", "v")),
        lambda: OwnAttention(("q_proj", "k_proj", "value")),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.Transformer(4, 2, 1, 1, 8),
        lambda: nn.TransformerEncoderLayer(4, 2, 8),
    ],
)
def test_attention_as_a_root_has_no_critics(watched: Watch, make: Callable[[], Any]) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    value = make()
    inputs = {nn.MultiheadAttention: 3, nn.Transformer: 2}.get(type(value), 1)
    optimizer = torch.optim.SGD(value.parameters(), 1e-2)
    for _ in range(4):
        x = torch.randn(6, 4)
        out = value(*[x] * inputs)
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    seen.read()
    # The variable is called `value`, and the output is flat: alone that would make it a critic.
    assert not [key for key in seen.points if key[0].startswith("q_")]


def test_the_critic_of_a_gan_is_no_critic(watched: Watch) -> None:
    seen = watched()
    every_attempt(seen)
    torch.manual_seed(0)
    generator, critic = mlp(2, 4), mlp(4, 1)
    critic_optimizer = torch.optim.RMSprop(critic.parameters(), 1e-3)
    generator_optimizer = torch.optim.RMSprop(generator.parameters(), 1e-3)
    for _ in range(4):
        fake = generator(torch.randn(8, 2))
        critic_optimizer.zero_grad()
        (critic(fake.detach()).mean() - critic(torch.randn(8, 4)).mean()).backward()
        critic_optimizer.step()
        generator_optimizer.zero_grad()
        (-critic(fake).mean()).backward()
        generator_optimizer.step()
    assert not [key for key in seen.read().points if key[0].startswith("q_")]


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("q1", "Net"),
        ("qf2_target", "Net"),
        ("critic", "Sequential"),
        ("value_net", "Linear"),
        ("vf", "FlattenMlp"),
        ("model", "SoftQNetwork"),
        ("net", "MLPQFunction"),
        ("net", "ContinuousCritic"),
        ("q_net", "QNetwork"),
    ],
)
def test_names_of_critics(name: str, class_name: str) -> None:
    assert sounds_like_critic(name, class_name)


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("policy", "ActorCritic"),
        ("model", "ActorCriticPolicy"),
        ("model", "T5Model"),
        ("quality", "Net"),
        ("seq", "Sequential"),
        ("model", "Qwen2ForCausalLM"),
        ("encoder", "VQVAE"),
        ("actor", "Sequential"),
    ],
)
def test_names_of_others(name: str, class_name: str) -> None:
    assert not sounds_like_critic(name, class_name)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, 0.0])
def test_moments_on_the_host_are_those_of_torch(bad: float) -> None:
    values = [*torch.randn(100, dtype=torch.float64).tolist(), bad]
    tensor = torch.tensor(values, dtype=torch.float64)
    low, high = torch.aminmax(tensor)
    mean, std, least, most = moments_of(values)
    assert mean == pytest.approx(tensor.mean().item(), nan_ok=True)
    assert least == pytest.approx(low.item(), nan_ok=True)
    assert most == pytest.approx(high.item(), nan_ok=True)
    if abs(bad) < 1e10:
        assert std == pytest.approx(tensor.std(correction=0).item())

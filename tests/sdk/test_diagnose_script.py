"""`nanwatch diagnose --script`: one real forward and backward pass of a user's own program."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nanwatch.forensics.checkpoint import backward
from nanwatch.forensics.checkpoint.facts import BackwardFacts, CheckpointFacts, Job, TimeFacts
from nanwatch.forensics.checkpoint.formats import Unusable, parts
from nanwatch.forensics.checkpoint.judge_backward import judge_backward, window_for
from nanwatch.forensics.checkpoint.opening import prepare
from nanwatch.forensics.checkpoint.reading import Checkpoint
from sdk.checkpoints import finding, network, save, train

HEAD = """
    import torch
    from torch import nn
    from torch.nn import functional as F
    def net():
        return nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
"""

ROLLOUT = """
    class Operator(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Linear(8, 32)
            self.project = nn.Linear(32, 8)

        def forward(self, u, steps):
            seen = []
            for _ in range(steps):
                u = u + self.project(torch.sin(self.features(u)))
                seen.append(u)
            return torch.stack(seen, dim=1)

    def factory(timesteps=256):
        torch.manual_seed(0)
        x = torch.randn(4, 8)
        return Operator(), lambda model: F.mse_loss(model(x, timesteps), torch.zeros(()))
"""


@pytest.fixture(autouse=True)
def _modules() -> Any:
    """What a factory imports does not stay for the next test."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("torch"):
            del sys.modules[name]
    sys.path[:] = path


def write(tmp_path: Path, code: str, name: str = "mine.py") -> str:
    (tmp_path / name).write_text(textwrap.dedent(HEAD) + textwrap.dedent(code))
    return f"{name}:factory"


def run(checkpoint: Path, script: str, **more: Any) -> BackwardFacts:
    """As the child does it, in this process."""
    job = Job(str(checkpoint), script=script, directory=str(checkpoint.parent), **more)
    with prepare([]):
        opened = Checkpoint(checkpoint, parts(checkpoint)).open(lambda *say: None)
    return backward.run_script(job, opened, lambda *say: None)


def findings(facts: BackwardFacts, file: CheckpointFacts | None = None) -> dict[str, Any]:
    file = file or CheckpointFacts("a.pt", "torch")
    return {f.rule: f for f in judge_backward(facts, file)}


class Operator(nn.Module):
    """The same tensors as in ROLLOUT, expanding a little in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.project = nn.Linear(8, 32), nn.Linear(32, 8)
        with torch.no_grad():
            self.features.weight.mul_(3.0)


def test_an_explosion_through_time_as_a_person_calls_it(tmp_path: Path) -> None:
    """Incident 003: finite loss, gradients beyond all bounds, and the exact option that helps."""
    torch.manual_seed(0)
    path = save(tmp_path / "step_500.pt", Operator(), config={"lr": 3e-4, "bptt_window": 0})
    write(tmp_path, ROLLOUT)
    command = [sys.executable, "-m", "nanwatch", "diagnose", str(path), "--script"]
    done = subprocess.run(
        [*command, "mine:factory"], capture_output=True, text=True, cwd=tmp_path, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "although the loss is finite" in said
    assert "through 256 steps of" in said and "Clipping cannot help" in said
    assert "--bptt-window 32" in said and "--lr 3e-05" in said
    assert "first_forward" not in said and "4 of 4 tensors loaded" in said
    cured = subprocess.run(
        [*command, "mine.py:factory", "--arg", "timesteps=8", "--format", "json"],
        capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False,
    )  # fmt: skip
    assert cured.returncode == 0, cured.stdout + cured.stderr
    found = json.loads(cured.stdout)
    assert found["verdict"] == "healthy" and len(found["backward"]["gradients"]) == 4


def test_norms_are_those_of_the_gradients(tmp_path: Path) -> None:
    model, _ = train()
    path = save(tmp_path / "a.pt", model)
    script = write(
        tmp_path,
        """
        def factory():
            model = net()
            torch.manual_seed(1)
            x, y = torch.randn(16, 10), torch.randn(16, 3)
            return model, lambda model: F.mse_loss(model(x), y)
        """,
    )
    facts = run(path, script, repeat=3)
    torch.manual_seed(1)
    x, y = torch.randn(16, 10), torch.randn(16, 3)
    model.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    wanted = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {g.name: g.norm for g in facts.gradients} == pytest.approx(wanted, rel=1e-4)
    total = sum(n * n for n in wanted.values()) ** 0.5
    assert facts.totals == pytest.approx([total] * 3, rel=1e-2)
    assert facts.verdict == "" and not findings(facts) and not facts.times
    assert facts.chain >= 5


def test_growth_in_each_step_is_measured(tmp_path: Path) -> None:
    """A linear loop whose Jacobian is 1.5: the gradient grows 1.5-fold a step, by construction."""
    layer = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(1.5 * torch.eye(4))
    path = save(tmp_path / "a.pt", nn.ModuleDict({"step": layer}))
    script = write(
        tmp_path,
        """
        def factory():
            model = nn.ModuleDict({"step": nn.Linear(4, 4, bias=False)})
            def loss(model):
                x = torch.ones(1, 4)
                for _ in range(60):
                    x = model["step"](x)
                return x.sum()
            return model, loss
        """,
    )
    facts = run(path, script)
    time = facts.times[0]
    assert (time.name, time.steps) == ("step", 60) and time.growth == pytest.approx(1.5, rel=1e-3)
    found = findings(facts)["exploding-gradient"]
    assert "1.5-fold in each" in found.message
    assert found.advice[0].copy == "--bptt-window 32" and found.advice[0].treats == "cause"


def test_the_window_fits_the_growth() -> None:
    assert window_for(TimeFacts("x", 256, 1.2)) == 32
    assert window_for(TimeFacts("x", 256, 3.0)) == 8
    assert window_for(TimeFacts("x", 30, 1.1)) == 16


def test_many_batches_are_no_loop_through_time(tmp_path: Path) -> None:
    """Forty micro-batches through one layer, side by side: nothing flows from one to the next."""
    path = save(tmp_path / "a.pt", nn.Sequential(nn.Linear(4, 1)))
    script = write(
        tmp_path,
        """
        def factory():
            model = nn.Sequential(nn.Linear(4, 1))
            return model, lambda m: torch.stack([m(torch.ones(4)) for _ in range(40)]).mean() * 1e9
        """,
    )
    facts = run(path, script)
    assert facts.times == []
    found = findings(facts)["exploding-gradient"]
    assert "through" not in found.message and "clip_grad_norm_" in found.advice[0].copy


def test_recurrent_modules_tell_their_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = save(tmp_path / "a.pt", nn.GRU(3, 5, batch_first=True))
    script = write(
        tmp_path,
        """
        def factory():
            torch.manual_seed(0)
            return nn.GRU(3, 5, batch_first=True), lambda m: 1e9 * m(torch.randn(2, 90, 3))[0].sum()
        """,
    )
    facts = run(path, script)
    assert facts.recurrent and [t.steps for t in facts.times] == [90]
    assert "--bptt-window" in findings(facts)["exploding-gradient"].advice[0].copy


@pytest.mark.parametrize(
    ("loss", "verdict", "words"),
    [
        ("lambda m: torch.log(m(x) * 0).mean() * 0", "loss", "The loss is NaN"),
        ("lambda m: m(x / 0).mean()", "not_found", "Look at the batch"),
        (
            "lambda m: Normal(m(x / 0), 1.0, validate_args=True).log_prob(x[:, :3]).mean()",
            "not_found",
            "raised ValueE",
        ),
    ],
)
def test_a_forward_pass_that_is_not_finite(
    tmp_path: Path, loss: str, verdict: str, words: str
) -> None:
    path = save(tmp_path / "a.pt", network())
    script = write(
        tmp_path,
        f"""
        from torch.distributions import Normal
        x = torch.zeros(16, 10)
        def factory():
            model = net()
            return model, {loss}
        """,
    )
    facts = run(path, script)
    assert facts.verdict == verdict
    found = findings(facts)["nonfinite-loss"]
    assert found.severity == "critical" and words in found.message


def test_poisoned_weights_are_told_from_a_bad_batch(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[3] = float("nan")
    path = save(tmp_path / "a.pt", model)
    script = write(
        tmp_path,
        """
        def factory():
            model = net()
            return model, lambda m: m(torch.ones(16, 10)).mean()
        """,
    )
    facts = run(path, script)
    assert facts.origin == "parameters" and facts.first_forward == "0"
    assert "Go back" in findings(facts)["nonfinite-loss"].advice[0].text


def test_a_gradient_that_is_not_finite_has_a_place(tmp_path: Path) -> None:
    """The square root at zero: finite forwards, infinite backwards."""
    path = save(tmp_path / "a.pt", nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}))
    script = write(
        tmp_path,
        """
        class Net(nn.ModuleDict):
            def forward(self, x):
                return self["b"](torch.sqrt(F.relu(self["a"](x)) * 0))

        def factory():
            model = Net({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
            return model, lambda m: m(torch.ones(2, 4)).sum()
        """,
    )
    facts = run(path, script)
    bad = [g.name for g in facts.gradients if g.bad]
    assert bad == ["a.weight", "a.bias"] and facts.first_backward == "a"
    found = findings(facts)["nonfinite-gradient"]
    assert "2 of 4 gradients are not finite" in found.message
    assert found.advice[0].treats == "cause" and "sqrt" in found.advice[0].copy


def test_rewards_that_are_not_scaled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", nn.Linear(4, 1), gamma=0.99)
    script = write(
        tmp_path,
        """
        def factory(checkpoint):
            critic = nn.ModuleDict({"q1": nn.Linear(4, 1)})
            critic["q1"].load_state_dict(checkpoint["model"])
            x, target = torch.ones(8, 4), torch.full((8, 1), -2.2e6)
            return {"critic": critic}, lambda: F.mse_loss(critic["q1"](x), target)
        """,
    )
    facts = run(path, script)
    found = findings(facts)["exploding-gradient"]
    assert found.advice[0].copy == "reward_scale: 1e-06"


def test_vanishing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(8, 8), nn.Sigmoid())])
    path = save(tmp_path / "a.pt", layers)
    script = write(
        tmp_path,
        """
        def factory():
            model = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(8, 8), nn.Sigmoid())])
            return model, lambda m: m(torch.ones(2, 8)).square().mean()
        """,
    )
    assert "0.weight" in findings(run(path, script))["vanishing-gradient"].message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def other(): pass", "has no function factory"),
        ("def factory(): raise KeyError('data')", "the factory raised KeyError"),
        ("def factory(): return 3", "the factory returned int"),
        ("def factory(): return 3, print", "is int, no torch.nn.Module"),
        ("def factory(): return nn.Linear(2, 2), lambda m: 1", "only 0 of 2 tensors"),
        (
            "def factory(checkpoint): return nn.Linear(2, 2), lambda m: m.weight",
            "a tensor of shape [2, 2]",
        ),
        (
            "def factory(checkpoint): return nn.Linear(2, 2), lambda m: m(torch.ones(3))",
            "the forward pass raised RuntimeError",
        ),
        ("import no_such_thing", "importing mine.py raised ModuleNotFoundError"),
        ("raise SystemExit(3)", "raised SystemExit"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, code: str, words: str) -> None:
    path = save(tmp_path / "a.pt", network())
    with pytest.raises(Unusable) as error:
        run(path, write(tmp_path, code))
    assert words in str(error.value)
    if "factory()" in code and "raise" in code:
        assert "mine.py:7 in factory" in str(error.value), "where in the user's file"


def test_a_callable_without_a_model(tmp_path: Path) -> None:
    """Its parameters are found; a dict with the loss is understood."""
    path = save(tmp_path / "a.pt", network())
    script = write(
        tmp_path,
        """
        def factory(checkpoint):
            model = net()
            model.load_state_dict(checkpoint["model"])
            return lambda: {"loss": model(torch.randn(8, 10)).square().mean()}
        """,
    )
    facts = run(path, script)
    assert len(facts.losses) == 1 and sum(not g.missing for g in facts.gradients) >= 6


def test_a_frozen_part_is_a_notice(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.pt", nn.ModuleDict({"used": nn.Linear(3, 1), "left": nn.Linear(3, 1)})
    )
    script = write(
        tmp_path,
        """
        def factory():
            model = nn.ModuleDict({"used": nn.Linear(3, 1), "left": nn.Linear(3, 1)})
            return model, lambda m: m["used"](torch.ones(2, 3)).mean()
        """,
    )
    found = findings(run(path, script))
    assert list(found) == ["no-gradient"] and found["no-gradient"].severity == "notice"


def test_findings_stand_beside_those_of_the_file(tmp_path: Path) -> None:
    from nanwatch.forensics.checkpoint.judge import judge

    file = CheckpointFacts("a.pt", "torch")
    facts = BackwardFacts("m:f", [1.0], [1.0], times=[TimeFacts("cell", 64, 1.3)], chain=200)
    facts.gradients = [backward.GradientFacts("cell.weight", 4, 1e9, 0)]
    verdict = judge(file, facts)
    assert verdict.verdict == "critical"
    assert finding(verdict, "exploding-gradient").advice[0].copy == "--bptt-window 32"

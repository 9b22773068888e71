"""Each rule of the packs on the trouble it is for, and on the health that looks like it."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Array, Trace, alarms, decay, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.detect.robust import Ring
from nanwatch_server.domain.models import Finding, Severity

N = 1600
T = np.arange(N)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def learning(seed: int = 0) -> Array:
    return decay(T) * noise(rng(seed), N, 0.05)


def flat(seed: int = 0, level: float = 2.3, spread: float = 0.01) -> Array:
    return level * noise(rng(seed), N, spread)


def seen(trace: Trace, size: int = 200, **facts: str) -> list[Finding]:
    detector = RunDetector(RUN, trace.facts | facts)
    return [f for b in trace.blocks(range(size, len(trace), size)) for f in detector.update(b)]


def fired(trace: Trace, rule: str, **facts: str) -> list[Finding]:
    return [f for f in alarms(seen(trace, **facts)) if f.rule == rule]


def layered(kind: str, values: Array, loss: Array) -> Trace:
    names = tuple(f"block{i}" for i in range(len(values)))
    return Trace({"loss": loss}, layers={kind: (names, values)})


# --- the loss ------------------------------------------------------------------------------------


def test_a_spike_that_stays_is_told_and_one_that_heals_is_not() -> None:
    loss = learning()
    loss[900:] = 2.3 * noise(rng(1), N - 900, 0.02)  # back at the level of an untrained model
    (found, *_) = fired(Trace({"loss": loss}), "loss_spike")
    assert 896 <= found.onset_step <= 912 and found.step <= 1100
    healed = learning()
    healed[900:1100] += 1.7 * np.exp(-np.arange(200) / 60)
    assert not alarms(seen(Trace({"loss": healed})))


def falls_far(seed: int = 0) -> Array:
    return (0.01 + 2.3 * np.exp(-T / 80)) * noise(rng(seed), N, 0.1)


def test_a_loss_that_stays_a_multiple_of_its_best_is_told_though_little_of_the_way_is_lost() -> (
    None
):
    loss = falls_far()
    loss[900:] *= 20  # 0.2 of 2.3: nine tenths of what was learnt are still there
    (found, *_) = fired(Trace({"loss": loss}), "loss_spike")
    assert 890 <= found.onset_step <= 912 and found.step <= 1100
    assert "of what was learnt" in found.message and "x the best" in found.message
    saw = falls_far()
    saw[900:] *= 1 + 30 * np.exp(-((T[900:] - 900) % 20) / 12)  # thrown back every 20 records
    assert fired(Trace({"loss": saw}), "loss_spike")
    healed = falls_far()
    healed[900:] += 0.3 * np.exp(-(T[900:] - 900) / 60)
    assert not alarms(seen(Trace({"loss": healed})))
    low = falls_far() * np.exp(-T / 200)
    low[1200:] *= 20  # at the foot of a loss any multiple is a bounce
    assert not fired(Trace({"loss": low}), "loss_spike")


def marked(loss: Array, what: str, at: int = 800, size: int = 200) -> list[Finding]:
    """Findings of a supervised run with one mark."""
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    failed: list[str] = []
    for block in Trace({"loss": loss}).blocks(range(size, N, size)):
        detector.on_failure = lambda rule, error: failed.append(f"{rule}: {error!r}")
        if int(block.steps[0]) == at:
            found += detector.mark(what, at, {})
        found += detector.update(block)
        saved = detector.state()  # the server is restarted after every batch
        detector = RunDetector.restore(RUN, {}, saved)
    assert not failed
    return found


def after(peak: float, at: int = 800) -> Array:
    loss = learning()
    since = T[at:] - at
    loss[at:] = (peak * 2.3 * np.exp(-since / 60) + 0.4) * noise(rng(3), N - at, 0.05)
    return loss


@pytest.mark.parametrize(("peak", "what"), [(40, "task"), (6, "task"), (40, "fit")])
def test_a_new_task_far_worse_than_no_training_at_all_is_told(peak: float, what: str) -> None:
    told = [f for f in alarms(marked(after(peak), what)) if f.rule == "task_shock"]
    # a fit may have another loss: what the one before began with is no measure
    assert bool(told) == (peak == 40 and what == "task")
    for one in told:
        assert "untrained" in one.title and one.onset_step == 800 and one.step < 850


@pytest.mark.parametrize("size", [1, 8, 40, 400])
def test_a_mark_makes_no_difference_between_batches(size: int) -> None:
    loss = after(40)
    loss[400:] *= 20.0
    assert marked(loss, "task", size=size) == marked(loss, "task")


@pytest.mark.parametrize("what", ["task", "fit", "resume"])
@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_losses_below_zero_have_no_multiples(what: str, sign: float) -> None:
    falls = (0.3 - 1.0 * (1 - np.exp(-T / 100)) if sign else np.zeros(N)) + 1e-3 * rng().normal(
        size=N
    )
    falls[:100] = sign * 0.2
    told = alarms(marked(falls, what))
    assert not told
    nll = 3 * np.exp(-T / 80) - 0.05 + 1e-3 * rng().normal(size=N)
    nll[900:] += 0.25
    assert not fired(Trace({"loss": nll}), "loss_spike")


def test_a_warm_restart_that_is_being_healed_is_no_spike() -> None:
    cycle = 0.004 + 0.5 * np.exp(-np.mod(T, 400) / 90)
    loss = np.where(T < 400, falls_far(), cycle * noise(rng(8), N, 0.1))
    rate = 0.05 + 0.05 * np.cos(np.pi * np.mod(T, 400) / 400)
    assert not fired(Trace({"loss": loss, "lr": rate}), "loss_spike")
    slower = np.where(T < 900, falls_far(), 0.3 * np.exp(-(T - 900) / 400) * noise(rng(8), N, 0.1))
    assert fired(Trace({"loss": slower, "lr": 0.1 * np.exp(-T / 400)}), "loss_spike")


def test_what_a_trained_model_costs_is_not_the_cost_of_an_untrained_one() -> None:
    loss = np.maximum(2.3 * np.exp(-T / 60), 0.03) * noise(rng(4), N, 0.05)
    loss[600:] = np.maximum(2.3 * np.exp(-(T[600:] - 600) / 60), 0.03)
    detector, found = RunDetector(RUN, {}), []
    for block in Trace({"loss": loss}).blocks(range(200, N, 200)):
        for what, at in (("resume", 400), ("task", 600)):
            if int(block.steps[0]) == at:
                found += detector.mark(what, at, {})
        found += detector.update(block)
    assert not [f for f in found if f.rule == "task_shock"]
    stays = after(40)
    stays[800:] = 90.0 * noise(rng(3), N - 800, 0.05)
    told = [f for f in marked(stays, "task") if f.rule == "task_shock"]
    assert told and not any(f.cleared for f in told), "it is as high as ever"


def test_a_state_of_an_older_server_is_taken_over() -> None:
    detector = RunDetector(RUN, {})
    failed: list[str] = []
    blocks = list(Trace({"loss": after(40)}).blocks(range(200, N, 200)))
    for block in blocks[:3]:
        detector.update(block)
    saved = detector.state()
    known = [(name, scope, data) for name, scope, data in saved["rules"] if name != "task_shock"]
    for name, _, data in known:
        data.pop("highest", None)
        if name == "loss_spike":  # it kept no rates
            old = Ring(1, 256)
            old.load(data["rings"])
            old.select([0])
            data["rings"] = old.dump()
    saved["rules"] = [*known, ["a_rule_of_tomorrow", "", {}]]
    older = RunDetector.restore(RUN, {}, saved)
    older.on_failure = lambda rule, error: failed.append(f"{rule}: {error!r}")
    assert older.state()["progress"] == detector.state()["progress"]
    for block in blocks[3:]:
        older.update(block)
    assert not failed


def test_a_new_task_that_is_learnt_is_no_spike() -> None:
    loss = np.concatenate([decay(np.arange(800)), decay(np.arange(800))]) * noise(rng(2), N, 0.05)
    assert not alarms(seen(Trace({"loss": loss})))


def test_a_loss_that_shoots_up_is_told_before_it_is_not_finite() -> None:
    loss = learning()
    loss[400:406] = [3, 80, 4e3, 3e6, 1e12, np.inf]
    loss[406:] = np.nan
    found = fired(Trace({"loss": loss}), "loss_explosion")
    assert found[0].step == 402 and found[0].onset_step == 401
    early = np.array([2.3, 9.0, 150.0, 4e4, 3e9, np.nan, np.nan])
    assert fired(Trace({"loss": early}), "loss_explosion")[0].step == 3


def test_the_loss_of_a_competitor_may_rise() -> None:
    loss = learning()
    loss[400:403] = [300, 3000, 3e4]
    assert not alarms(seen(Trace({"loss": loss}), scopes="generator,discriminator"))


def test_a_loss_that_grows_ever_faster() -> None:
    loss = 0.5 * noise(rng(3), N, 0.05) * 2.0 ** (np.maximum(0, T - 600) / 60)
    assert fired(Trace({"loss": loss}), "loss_growth")[0].step < 1100


def test_a_sharp_loss_that_never_moves_is_told_after_a_thousand_records() -> None:
    found = fired(Trace({"loss": flat()}), "plateau")
    assert 999 <= found[0].step <= 1100
    assert not alarms(seen(Trace({"loss": flat(spread=0.5)}))), "noise hides what was learnt"
    lucky = [fired(Trace({"loss": flat(seed, spread=0.08)}), "plateau") for seed in range(12)]
    assert sum(map(bool, lucky)) >= 11, "the first records stand a little high or low by chance"
    slow = [2.3 * (1 - 0.08 * (1 - np.exp(-T / 150))) * noise(rng(n), N, 0.08) for n in range(12)]
    told = [bool(fired(Trace({"loss": loss}), "plateau")) for loss in slow]
    assert not any(told), "little is learnt, but not nothing"
    below = fired(Trace({"loss": -flat()}), "plateau")
    assert all("above its start" not in one.title for one in below)
    late = flat()
    late[700:] *= np.exp(-np.arange(N - 700) / 200)
    assert not alarms(seen(Trace({"loss": late})))


def test_a_loss_that_was_never_below_its_start_is_told() -> None:
    late = np.maximum(T - 40, 0) / 50
    hump = 4 * late * np.exp(1 - late)
    loss = 2.3 * (1 + hump + 0.5 * (late > 0))
    found = fired(Trace({"loss": loss * noise(rng(5), N, 0.05)}), "plateau")
    assert 399 <= found[0].step <= 520 and "above its start" in found[0].title
    assert "never below" in found[0].message
    heals = 2.3 * (1 + hump) - 2 * (1 - np.exp(-late / 2))
    assert not alarms(seen(Trace({"loss": heals * noise(rng(5), N, 0.05)})))
    harder = 1.2 + 0.7 * np.minimum(late / 6, 1) - 0.1 * late / 30  # from easy to hard, and learnt
    assert not alarms(seen(Trace({"loss": harder * noise(rng(5), N, 0.02)})))
    policy = Trace({"loss": loss, "reward": np.linspace(0, 1, N) * noise(rng(6), N, 0.05)})
    assert not fired(policy, "plateau")


@pytest.mark.parametrize("constant", [0.0, 1e6])
def test_a_stand_in_for_the_loss_is_told(constant: float) -> None:
    loss = learning()
    loss[700:] = constant
    found = fired(Trace({"loss": loss}), "constant_loss")
    assert found[0].onset_step == 700 and found[0].step == 720


def test_a_hinge_loss_that_is_solved_comes_to_rest_at_zero() -> None:
    loss = np.maximum(0, np.exp(-T / 100) * noise(rng(4), N, 0.3) - 0.005)
    assert (loss[-500:] == 0).all()
    assert not alarms(seen(Trace({"loss": loss})))


# --- weights that stand still --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lr", "grad_norm", "update_norm"])
def test_weights_that_stand_still(kind: str) -> None:
    values = np.ones(N)
    values[300:] = 0
    trace = Trace({"loss": flat(), kind: values, "update_applied": np.ones(N)})
    found = fired(trace, "idle_weights")
    assert found[0].onset_step == 300 and found[0].step <= 360


def test_a_schedule_may_end_at_zero() -> None:
    rate = np.maximum(0, 1 - T / 1500)
    assert not alarms(seen(Trace({"loss": learning(), "lr": rate})))


def test_a_gradient_that_fades_is_told_only_where_nothing_is_learnt() -> None:
    norms = np.logspace(-8, 0, 6)[:, None] * noise(rng(5), (N), 0.2)
    trace = layered("grad_norm_layer", norms, flat())
    trace.scalars["grad_norm"] = np.sqrt((norms**2).sum(0))
    assert fired(trace, "vanishing_gradient")
    trace.scalars["loss"] = learning()
    assert not alarms(seen(trace))


def test_dead_units_are_told_only_where_nothing_is_learnt() -> None:
    shares = np.stack([np.full(N, 0.3), np.full(N, 0.99)])
    found = fired(layered("dead_fraction_layer", shares, flat()), "dead_units")
    assert found and found[0].layer == "block1"
    assert not alarms(seen(layered("dead_fraction_layer", shares, learning())))


def test_weights_that_no_gradient_reaches() -> None:
    shares = np.stack([np.full(N, 0.97), np.zeros(N)])
    (found, *_) = fired(layered("unreached_fraction_layer", shares, flat()), "unreached")
    assert found.layer == "block0" and 199 <= found.step <= 216 and "97 %" in found.title
    assert not alarms(seen(layered("unreached_fraction_layer", shares, falls_far())))
    whole = np.ones((2, N))  # the layer is out of use
    few = np.full((2, N), 0.1)
    now_and_then = np.where(T % 20, 0.97, 0.0) * np.ones((2, 1))
    in_turn = np.where(T % 2, 0.97, np.nan) * np.ones((2, 1))
    assert fired(layered("unreached_fraction_layer", in_turn, flat()), "unreached")
    late = np.where((T > 1000) | (T < 2), 0.97, 0.0) * np.ones((2, 1))
    (found, *_) = fired(layered("unreached_fraction_layer", late, flat()), "unreached")
    assert 1001 <= found.onset_step <= 1010 and found.step >= 1201
    for calm in (whole, few, now_and_then):
        assert not fired(layered("unreached_fraction_layer", calm, flat()), "unreached")


def test_updates_too_large_and_too_small() -> None:
    large = layered("update_ratio_layer", np.full((3, N), 0.5), flat() * (1 + T / 400))
    assert fired(large, "update_ratio")
    small = layered("update_ratio_layer", np.full((3, N), 1e-9), flat())
    assert fired(small, "update_ratio")
    assert not alarms(seen(layered("update_ratio_layer", np.full((3, N), 1e-9), learning())))


# --- large models --------------------------------------------------------------------------------


def test_logits_that_run_away_and_logits_that_are_large() -> None:
    growing = 4 * 2.0 ** (np.maximum(0, T - 500) / 80) * noise(rng(6), N, 0.05)
    assert fired(Trace({"loss": learning(), "logit_max": growing}), "logit_growth")
    large = 400 * (1 - np.exp(-T / 200)) + 1
    assert not alarms(seen(Trace({"loss": learning(), "logit_max": large})))


def test_attention_names_the_layer() -> None:
    calm = 3 * noise(rng(7), N, 0.1)
    wild = 3 * 2.0 ** (np.maximum(0, T - 500) / 60)
    trace = layered("attention_logit_max_layer", np.stack([calm, wild]), learning())
    assert fired(trace, "attention_growth")[0].layer == "block1"


def test_a_loss_scale_that_collapses() -> None:
    scale = np.full(N, 65536.0)
    scale[600:] = np.maximum(0.25, 65536.0 / 2.0 ** ((np.arange(N - 600) // 4) + 1))
    found = fired(Trace({"loss_scale": scale}), "loss_scale")
    assert found[0].severity == Severity.WARNING and found[-1].severity == Severity.CRITICAL
    settling = np.maximum(1024.0, 65536.0 / 2.0 ** (T // 2))
    settling[800:] = 2048
    assert not alarms(seen(Trace({"loss_scale": settling})))


def test_adam_that_lags_is_a_mark() -> None:
    rms = noise(rng(8), N, 0.1)
    rms[500] = 4.0
    found = [f for f in seen(Trace({"adam_rms": rms})) if f.rule == "adam_rms"]
    assert [f.severity for f in found] == [Severity.NOTICE] and found[0].onset_step == 500


def test_weights_and_statistics_that_run_away() -> None:
    norm = 10 * 1.5 ** (np.maximum(0, T - 300) / 60)
    assert fired(Trace({"param_norm": norm}), "weight_growth")
    drift = np.stack([np.ones(N), 2.0 ** (np.maximum(0, T - 300) / 40)])
    assert fired(layered("buffer_abs_max_layer", drift, learning()), "buffer_drift")
    assert not alarms(seen(Trace({"param_norm": 10 + np.sqrt(T)})))


# --- policies, games, memories -------------------------------------------------------------------


def test_a_policy_that_stops_exploring_before_it_earned_anything() -> None:
    entropy = np.maximum(0.001, 1.4 * np.exp(-T / 60))
    poor = Trace({"entropy": entropy, "reward": np.ones(N)})
    assert fired(poor, "entropy_collapse")
    density = Trace({"entropy": entropy - 0.6, "reward": np.ones(N)})
    assert not fired(density, "entropy_collapse"), "that of a continuous policy may be negative"
    rich = Trace({"entropy": entropy, "reward": 1 + 20 * (1 - np.exp(-T / 60))})
    assert not alarms(seen(rich))


def test_a_policy_that_moves_too_far() -> None:
    kl = 0.02 * noise(rng(9), N, 0.3)
    kl[500:] *= 200
    assert fired(Trace({"kl": kl, "reward": np.ones(N)}), "policy_shift")
    assert not alarms(seen(Trace({"kl": kl}))), "the KL of a VAE is no policy's"


def test_a_value_function_worse_than_none() -> None:
    variance = np.where(T < 400, 0.6, -5.0)
    assert fired(Trace({"explained_variance": variance}), "explained_variance")
    early = np.where(T < 100, -5.0, 0.3)
    assert not alarms(seen(Trace({"explained_variance": early})))


def test_a_discriminator_that_has_won() -> None:
    detector = RunDetector(RUN, {"scopes": "generator,discriminator"})
    own = np.maximum(1e-4, 0.69 * np.exp(-T / 80))
    other = np.minimum(12, 0.69 + T / 60)
    found: list[Finding] = []
    for start in range(0, N, 100):
        cut = slice(start, start + 100)
        for scope, loss in (("generator", other), ("discriminator", own)):
            block = Block(scope, "train", T[cut], T[cut] * 0.1, {"loss": loss[cut]})
            found += detector.update(block)
    assert {f.rule for f in alarms(found)} == {"adversary"}


def test_memories_that_no_longer_fit() -> None:
    loss = learning()
    replay = 0.5 * loss * noise(rng(10), N, 0.1)
    replay[1000:] *= 30
    trace = Trace({"loss": loss}, layers={"custom": (("acc", "replay_loss"),
                  np.stack([np.ones(N), replay]))})  # fmt: skip
    assert fired(trace, "replay_health")[0].onset_step == 1000


def test_numbers_that_a_guard_repairs_all_the_time() -> None:
    repairs = np.zeros((1, N))
    repairs[0, 300:] = 3
    trace = Trace({}, layers={"repaired": (("sanitize",), repairs)})
    trace.scalars["loss"] = learning()
    assert fired(trace, "repaired")[0].step <= 330


def test_gradients_that_are_never_set_to_zero() -> None:
    kept = np.full(N, np.nan)
    kept[1:48] = 0.3  # as the SDK looks: the first attempts, then some of many
    (found, *_) = fired(Trace({"loss": learning(), "grad_kept": kept}), "kept_gradients")
    assert found.onset_step <= 2 and found.step <= 10
    kept[:] = np.nan
    kept[1:48:2] = 0.3
    assert not fired(Trace({"loss": learning(), "grad_kept": kept}), "kept_gradients")


def test_a_large_loss_in_float16() -> None:
    loss = 400 * noise(rng(), N, 0.2)
    (found, *_) = fired(Trace({"loss": loss}), "half_loss", loss_dtype="float16")
    assert found.step <= 16
    assert not fired(Trace({"loss": loss / 40}), "half_loss", loss_dtype="float16")
    assert not fired(Trace({"loss": loss}), "half_loss", loss_dtype="bfloat16")
    assert not fired(Trace({"loss": loss}), "half_loss")


MARGIN = "domain_margin"


def edges(name: str, margins: Array, size: int = 200) -> list[Finding]:
    return [f for f in alarms(seen(Trace({}, layers={MARGIN: ((name,), margins[None])}), size))
            if f.rule == "near_edge"]  # fmt: skip


def test_an_argument_on_its_way_across_the_edge() -> None:
    line = np.where(T < 300, 18.0, 18.0 - 0.05 * (T - 300))
    line[line <= 0] = np.nan
    for size in (1, 13, 200):
        (found, *_) = edges("log:unbounded", line * noise(rng(1), N, 0.01), size)
        assert 520 <= found.step < 650, "18 is gone after 360 steps"
    crossed = Trace({}, layers={MARGIN: (("log:unbounded",), line[None])})
    assert not any(one.cleared for one in seen(crossed)), "NaN is not far from the edge again"
    slowing = 18 * np.exp(-T / 60) + 0.4
    assert not edges("log:unbounded", slowing * noise(rng(2), N, 0.02))
    assert not edges("log", line), "a probability may come near 0"
    assert not edges("acos:unbounded", line / 18)
    assert edges("acos:unbounded", np.where(T < 50, 0.3, 4e-7))
    assert edges("log:1-p", np.where(T < 50, 0.3, 4e-7))
    for guarded in ("log:1-p", "acos:unbounded"):  # 1 + 1e-6 - p, clamp(-1 + 1e-6, 1 - 1e-6)
        assert not edges(guarded, np.where(T < 50, 0.3, 9.5e-7))
    assert not edges("log", np.where(T < 50, 0.3, 4e-7))


def test_margins_that_only_scatter_or_slow_down() -> None:
    for seed in range(8):
        made = rng(seed)
        least = np.abs(made.normal(size=(N, 32))).min(axis=1)
        assert not edges("division:unbounded", least)
        assert not edges("division:unbounded", np.maximum(least, 0.01))
        assert not edges("division:unbounded", np.exp(made.normal(0, 0.5, (N, 32))).min(axis=1))
    for records in (8, 16, 32, 100, 300):
        assert not edges("log:unbounded", 0.95 * np.exp(-T / records) + 0.05)


def test_a_probability_that_is_rounded_to_zero_next() -> None:
    assert edges("log", 0.3 * np.exp(-T / 20))
    guarded = np.maximum(0.3 * np.exp(-T / 20), 1e-12)
    assert not edges("log", guarded)
    assert not edges("log", np.full(N, 1e-30)), "it was so from the start"


def test_exponents_near_overflow() -> None:
    assert edges("exp", np.maximum(88.0 - T / 10, 1.0))
    assert not edges("exp", np.maximum(88.0 - T / 10, 60.0))
    assert edges("exp:float16", np.maximum(11.0 - T / 50, 1.0))
    assert not edges("exp:float16", np.maximum(11.0 - T / 50, 4.0))


# --- silence -------------------------------------------------------------------------------------


def test_silence_is_judged_by_the_pace() -> None:
    detector = RunDetector(RUN, {})
    steps = np.arange(100)
    detector.update(Block("", "train", steps, steps * 0.5, {"loss": np.ones(100)}))
    assert not detector.quiet_until(49.5 + 29)
    (warned,) = detector.quiet_until(49.5 + 31)
    assert (warned.rule, warned.severity, warned.step) == ("stall", Severity.WARNING, 99)
    assert not detector.quiet_until(49.5 + 60), "told once"
    (critical,) = detector.quiet_until(49.5 + 151)
    assert critical.severity == Severity.CRITICAL
    back = detector.update(
        Block("", "train", steps + 100, 300 + steps * 0.5, {"loss": np.ones(100)})
    )
    assert [f.cleared for f in back if f.rule == "stall"] == [True]
    assert not detector.quiet_until(349.5 + 400), "it was once silent for 250 s"


def test_an_announced_evaluation_may_take_long() -> None:
    detector = RunDetector(RUN, {})
    steps = np.arange(100)
    detector.update(Block("", "train", steps, steps * 0.5, {"loss": np.ones(100)}))
    detector.mark("eval", 99, {})
    assert not detector.quiet_until(49.5 + 200)
    assert detector.quiet_until(49.5 + 400)


def test_a_single_record_tells_no_pace() -> None:
    detector = RunDetector(RUN, {})
    block = Block("", "train", np.array([0]), np.array([0.0]), {"loss": np.ones(1)})
    detector.update(block)
    assert not detector.quiet_until(1e6)


# --- the rise of a learning rate is told with whatever follows -----------------------------------


def test_a_test_of_learning_rates_may_diverge_and_a_schedule_may_not() -> None:
    loss, norm = learning(), noise(rng(1), N, 0.1)
    loss[240:] *= np.exp(np.minimum(np.arange(N - 240) / 4, 30))
    norm[240:] *= np.exp(np.minimum(np.arange(N - 240) / 4, 30))
    test = 1e-7 * 1.07**T
    assert alarms(seen(Trace({"loss": loss, "grad_norm": norm})))
    for size in (1, 7, 200, 290):
        trace = Trace({"loss": loss[:290], "grad_norm": norm[:290], "lr": test[:290]})
        assert not alarms(seen(trace, size)), size
    usual = 1e-3 * 1.02**T  # a factor a step too, from a rate that teaches
    linear = 1e-7 + 1e-3 * T / 290
    for rate in (usual, linear):
        trace = Trace({"loss": loss[:290], "grad_norm": norm[:290], "lr": rate[:290]})
        assert alarms(seen(trace))


def test_a_rise_of_the_learning_rate_is_evidence() -> None:
    norm = noise(rng(11), 700, 0.2) * 2.0 ** (np.maximum(0, np.arange(700) - 400) / 8)
    rate = np.where(np.arange(700) < 390, 1e-4, 1e-2)
    first = alarms(seen(Trace({"grad_norm": norm, "lr": rate})))[0]
    assert any(e.label == "Learning rate rose" and "0.01" in e.value for e in first.evidence)
    steady = alarms(seen(Trace({"grad_norm": norm, "lr": np.full(700, 1e-4)})))[0]
    assert not any(e.label == "Learning rate rose" for e in steady.evidence)


# --- updates --------------------------------------------------------------------------------------


def stepping(applied: Array) -> Trace:
    """Finite losses and norms; a script that steps where `applied` is 1."""
    scalars = {"loss": learning(), "grad_norm": noise(rng(3), N, 0.2), "update_applied": applied}
    return Trace(scalars | {"skip_reason": np.where(applied == 1, 0.0, 2.0)})


def test_nearly_all_updates_left_out_irregularly_are_told() -> None:
    picked = (rng(4).random(N) < 0.05).astype(float)
    (found, *_) = fired(stepping(picked), "skip_streak")
    assert found.step < 300 and "of the last 200 updates skipped" in found.title


@pytest.mark.parametrize("every", [16, 32, 50])
def test_accumulation_with_a_rest_at_the_end_of_each_epoch_is_not(every: int) -> None:
    epoch = 4 * every + 7
    applied = ((T % epoch) % every == every - 1) | (T % epoch == epoch - 1)
    assert not fired(stepping(applied.astype(float)), "skip_streak")


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_a_limit_that_is_none_silences_no_other_rule(limit: float) -> None:
    """A person's way to say "off": of the logarithm of such a limit there is nothing."""
    failures: list[str] = []
    limits = {"logit_growth": {"absolute": limit, "absolute_early": limit}}
    detector = RunDetector(RUN, {}, limits | {"surge": {"norm_alone": limit}})
    detector.on_failure = lambda rule, error: failures.append(rule)
    n = 64
    values = {"loss": np.ones(n), "grad_norm": np.ones(n), "logit_max": np.full(n, 3.0)}
    values["loss"][30] = np.nan
    found = detector.update(Block("", "train", np.arange(n), np.arange(n) * 0.1, values))
    assert any(one.rule == "nonfinite" and one.step == 30 for one in found)
    assert not failures

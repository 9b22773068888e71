"""Scorecard of the rules on recorded trainings, with the published rule sets in the same table.

Replays the traces of `scenarios/corpus` through the real rules and incidents. What a run was is
told by labels that no rule has a part in; docs/corpus.md has the rules, the split and the words.

    python benchmarks/detection.py [--half tuned|scored|both] [--causes] [--quick] [--program NAME]

`--quick` takes two runs of each program. The closing line is the share of healthy runs with any
warning (at most 2 %), its `also` the other targets.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from common import closing_line, figure, spread, versions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rule_sets import RULE_SETS
from scenarios.corpus import traces
from scenarios.corpus.causes import CAUSES
from scenarios.corpus.judged import judge, warned_at, worst
from scenarios.corpus.labels import Label, label
from scenarios.corpus.reading import Reading

from nanwatch_server.backtest.trial import Verdict
from nanwatch_server.diagnose.syndromes import SYNDROMES

NAME = "healthy runs with any warning"
OURS = "nanwatch"
QUICK_SEEDS = 2
PROCESSES = 2


class Said(NamedTuple):
    """What one rule set said of a run."""

    warned_at: int | None
    incident: bool = False
    syndrome: str = ""
    """Of the worst incident."""
    others: tuple[str, ...] = ()
    """Of all incidents."""


class Result(NamedTuple):
    """One run: what it was, and what each rule set said."""

    name: str
    seed: int
    group: str
    """Cause of a sick program, family of a healthy one."""
    label: Label
    said: dict[str, Said]
    failures: tuple[str, ...]
    """Errors of our rules."""


def measure(name: str, seeds: int | None) -> list[Result]:
    """All runs of a program, or the first so many."""
    return [_result(trace) for trace in traces.load(name)[:seeds]]


def _result(trace: traces.Trace) -> Result:
    found = label(trace)
    verdict = judge(trace)
    reading = Reading(trace)
    incident = worst(verdict)
    said = {
        OURS: Said(
            warned_at(verdict),
            bool(verdict.incidents),
            incident.diagnosis.syndrome if incident else "",
            tuple(one.diagnosis.syndrome for one in verdict.incidents),
        )
    }
    said |= {tool: Said(rules(reading)) for tool, rules in RULE_SETS.items()}
    about = trace.about
    group = about.cause if about.sick else about.family
    return Result(trace.name, trace.seed, group, found, said, verdict.failures)


# --- shares --------------------------------------------------------------------------------------


class Share(NamedTuple):
    """k of n."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """In per cent; 0 of none."""
        return 100 * self.k / self.n if self.n else 0.0

    def __str__(self) -> str:
        low, high = wilson(self.k, self.n)
        return f"{self.value:5.1f} %  [{100 * low:4.1f}, {100 * high:5.1f}]  {self.k}/{self.n}"


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share k / n, 95 %."""
    if not n:
        return 0.0, 1.0
    p, z2 = k / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(results: Sequence[Result], holds: Callable[[Result], bool]) -> Share:
    """Of how many runs it holds."""
    return Share(sum(map(holds, results)), len(results))


class Score(NamedTuple):
    """A row of the table."""

    flagged: Share
    caught: Share
    """Flagged before the first bad attempt, of those that had a precursor."""
    leads: list[int]
    alarms: Share
    """Healthy runs with any warning."""
    programs: Share
    """Healthy programs with a warning in any run."""


def score(results: Sequence[Result], tool: str) -> Score:
    """Of the runs that are sick or healthy."""

    def warned(one: Result) -> bool:
        return one.said[tool].warned_at is not None

    def lead(one: Result) -> int:
        at, bad = one.said[tool].warned_at, one.label.first_bad
        return bad - at if at is not None and bad is not None else 0

    sick = [one for one in results if one.label.kind == "sick"]
    healthy = [one for one in results if one.label.kind == "healthy"]
    announced = [one for one in sick if one.label.precursor is not None]
    return Score(
        share(sick, warned),
        share(announced, lambda one: lead(one) > 0),
        sorted(lead(one) for one in announced if lead(one) > 0),
        share(healthy, warned),
        Share(
            len({one.name for one in healthy if warned(one)}), len({one.name for one in healthy})
        ),
    )


def is_right(one: Result, syndromes: Sequence[str]) -> bool:
    """One of these names fits the cause."""
    return bool(CAUSES[one.group].syndromes.intersection(syndromes))


# --- what is printed -----------------------------------------------------------------------------


def table(results: Sequence[Result]) -> None:
    """One row a rule set."""
    print(
        f"{'':<19} {'sick runs flagged':<29} {'before the first bad value':<29} "
        f"{'lead, attempts':<18} {'healthy runs warned':<29} programs"
    )
    for tool in (OURS, *RULE_SETS):
        row = score(results, tool)
        leads = "-"
        if row.leads:
            middle, low, high = spread(row.leads)
            leads = f"{middle:.0f} ({low:.0f}-{high:.0f})"
        print(
            f"{tool:<19} {row.flagged!s:<29} {row.caught!s:<29} {leads:<18} "
            f"{row.alarms!s:<29} {row.programs.k}/{row.programs.n}"
        )


def by_group(results: Sequence[Result]) -> None:
    """One row a cause, then the families of healthy trainings that were warned about."""
    print(f"\n{'cause':<30} {'runs':>4} {'flagged':>7} {'bad':>4} {'foretold':>8} {'caught':>6} "
          f"{'right':>5}  said")  # fmt: skip
    sick = [one for one in results if one.label.kind == "sick"]
    for group in sorted({one.group for one in sick}):
        runs = [one for one in sick if one.group == group]
        row = score(runs, OURS)
        bad = sum(one.label.first_bad is not None for one in runs)
        right = sum(is_right(one, [one.said[OURS].syndrome]) for one in runs)
        names = Counter(one.said[OURS].syndrome or "nothing" for one in runs)
        said = ", ".join(f"{name} {count}" for name, count in names.most_common(3))
        print(f"{group:<30} {len(runs):>4} {row.flagged.k:>7} {bad:>4} {row.caught.n:>8} "
              f"{row.caught.k:>6} {right:>5}  {said}")  # fmt: skip
    warned = Counter(
        one.group
        for one in results
        if one.label.kind == "healthy" and one.said[OURS].warned_at is not None
    )
    families = ", ".join(f"{family} {count}" for family, count in warned.most_common())
    print(f"\nhealthy runs warned about, by family: {families or 'none'}")
    left = Counter(one.label.why for one in results if one.label.kind == "left out")
    print(f"left out: {sum(left.values())}", *(f"\n  {why}: {n}" for why, n in left.items()))


def details(name: str) -> None:
    """Everything that is said of one program."""
    for trace in traces.load(name):
        found, verdict = label(trace), judge(trace)
        print(f"\n{name} seed {trace.seed}: {found.kind} {found.why} onset {found.onset} "
              f"first bad {found.first_bad} precursor {found.precursor}")  # fmt: skip
        _findings(verdict)
        said = {tool: rules(Reading(trace)) for tool, rules in RULE_SETS.items()}
        print("  others:", ", ".join(f"{tool} {step}" for tool, step in said.items()))


def _findings(verdict: Verdict) -> None:
    for text in verdict.failures:
        print(f"  a rule failed: {text}")
    for one in verdict.findings:
        where = " ".join(filter(None, (one.scope, one.kind, one.layer)))
        print(f"  {one.step:>6} {one.severity.word:<8} {one.rule} [{where}] since "
              f"{one.onset_step}: {one.title}")  # fmt: skip
    for one in verdict.incidents:
        print(f"  = {one.severity.word} {one.diagnosis.syndrome} "
              f"({one.diagnosis.confidence:.2f}), since {one.onset_step}, fired {one.fired_step}, "
              f"{one.state}: {one.diagnosis.title}")  # fmt: skip


def targets(results: Sequence[Result], half: str) -> None:
    """The closing line."""
    ours = score(results, OURS)
    sick = [one for one in results if one.label.kind == "sick"]
    told = [one for one in sick if one.said[OURS].warned_at is not None]
    opened = share(sick, lambda one: one.said[OURS].incident)
    right = share(told, lambda one: is_right(one, [one.said[OURS].syndrome]))
    any_of = share(told, lambda one: is_right(one, one.said[OURS].others))
    unknown = {name for cause in CAUSES.values() for name in cause.syndromes} - {
        one.name for one in SYNDROMES
    }
    print(f"\nincident opened     {opened}")
    print(f"right syndrome      {right}   (in any incident of the run: {any_of})")
    if unknown:
        print(f"syndromes that no diagnosis gives yet: {', '.join(sorted(unknown))}")
    failures = [text for one in results for text in one.failures]
    if failures:
        runs = sum(bool(one.failures) for one in results)
        print(f"a rule failed in {runs} runs, the first time with\n{failures[0]}")
    also = [
        figure("sick runs flagged", ours.flagged.value, "%", 95.0, most=False),
        figure("caught before the first bad value", ours.caught.value, "%", 95.0, most=False),
        figure("right syndrome", right.value, "%", 85.0, most=False),
        figure("healthy runs scored", float(ours.alarms.n), "runs", 150.0, most=False),
    ]
    own = ours.alarms.value <= 2.0
    closing_line(
        NAME,
        ours.alarms.value,
        "%",
        2.0,
        also=also,
        own_ok=own,
        ok=own and not failures and all(one["ok"] for one in also),
        half=half,
        versions=versions("nanwatch", "numpy"),
    )


def main() -> None:
    """Print the tables and the closing line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--half",
        choices=(*traces.HALVES, "both"),
        help="default: the scored half, or the tuned one while no unseen half exists",
    )
    parser.add_argument(
        "--causes",
        action="store_true",
        help="a row for each cause; always shown for the tuned half, and of the scored one nothing "
        "for those who change rules",
    )
    parser.add_argument("--quick", action="store_true", help="two runs of each program")
    parser.add_argument("--program", metavar="NAME", help="all that is said of one program")
    given = parser.parse_args()
    if given.program:
        details(given.program)
        return
    halves = {name: traces.half(name) for name in traces.names()}
    half = given.half or ("scored" if "scored" in halves.values() else "tuned")
    chosen = [name for name, own in halves.items() if half in ("both", own)]
    if not chosen:
        parser.error(
            f"no program is in the half {half}; write and record unseen ones first: "
            "python -m scenarios.corpus.record --half scored NAME"
        )
    seeds = QUICK_SEEDS if given.quick else None
    with ProcessPoolExecutor(PROCESSES) as pool:
        done = pool.map(measure, chosen, [seeds] * len(chosen), chunksize=1)
        results = [one for part in done for one in part]
    kinds = Counter(one.label.kind for one in results)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in ("sick", "healthy", "left out"))
    print(f"half: {half}; {len(chosen)} programs, {len(results)} runs: {counts}\n")
    table(results)
    if given.causes or half == "tuned":
        by_group(results)
    targets(results, half)


if __name__ == "__main__":
    main()

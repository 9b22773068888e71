"""`nanwatch check`: the rules over logs that exist already, and back-tests over stored runs.

Options, progress and messages; the work is done by `nanwatch_server.backtest`. Standard output
holds the report only, everything else goes to standard error.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from nanwatch.cli.check_stored import check_stored
from nanwatch.cli.output import byte_bar, console, fail, server_part_missing

if TYPE_CHECKING:
    from nanwatch_server.backtest.logs import Reading
    from nanwatch_server.backtest.trial import Verdict
    from nanwatch_server.importers.discover import Found
    from nanwatch_server.importers.source import Options, Source

UNUSABLE = 2
CRITICAL = 1
FOLLOW_S = 1.0
IDLE_S = 2.0
"""Without a new line for this long the newest step is taken as complete."""
BAR_BYTES = 4 << 20
CLOCK_S = 7 * 86_400.0
"""A log whose newest time is within this of now keeps a wall clock; silence can be told."""
COLUMNS_SHOWN = 40

_RUN_ID = re.compile(r"[0-9a-f]{6,32}")


class Report(NamedTuple):
    """One run and what was found."""

    name: str
    file: str
    about: str
    verdict: Verdict
    traces: Any


def check(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|DIR|RUN_ID",
            help="JSON lines, CSV, TensorBoard event files, trainer_state.json, a folder of them; "
            "or the id of a run that is stored here.",
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Other limits: a file like docs/rules.md describes.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=KIND[:scope]",
            help="What a column is; KIND `ignore` leaves it out; NAME may hold *.",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE|FILE.json",
            help="Facts of the training that the log does not tell: gamma=0.99, lr=3e-4.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--format", metavar="text|json", help="What is printed.")
    ] = "text",
    html: Annotated[
        Path | None, typer.Option(help="Also write a report with charts: one HTML file.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Stay with a log that grows, until Ctrl-C.")] = False,
    last: Annotated[
        int, typer.Option(min=0, metavar="N", help="Back-test: the last N stored runs.")
    ] = 0,
    project: Annotated[str, typer.Option(help="Back-test: only runs of this project.")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Back-test: where runs are stored.")] = None,
) -> None:
    """Check logs of a training that is over, or goes on: the same rules as on the page.

    Exit code 1 if anything critical was found, 2 if nothing could be read, else 0.
    """
    if output not in ("text", "json"):
        fail(f"expected --format text or json, got {output!r}", UNUSABLE)
    try:
        from nanwatch_server.detect import limits
        from nanwatch_server.importers.names import MapError, given
    except ImportError as error:
        server_part_missing(error)
    try:
        told = tuple(given(one) for one in mapping or ())
        thresholds = limits.read_limits(_text_of(rules)) if rules else None
    except (MapError, limits.LimitsError) as error:
        fail(f"{rules}: {error}" if isinstance(error, limits.LimitsError) else str(error), UNUSABLE)
    facts = _facts(config or [])
    out = Console(highlight=False, soft_wrap=False)
    if last or project or _are_runs(targets or []):
        raise SystemExit(
            check_stored(
                out, targets or [], last, project, thresholds, data_dir, as_json=output == "json"
            )
        )
    if not targets:
        fail("expected a file, a folder or the id of a run; or --last N", UNUSABLE)
    readings = _readings(targets, told, facts, thresholds, follow)
    readings = _judge(readings, follow, quiet=output == "json")
    reports = [_finished(one) for one in readings]
    reports = _of_use(reports, readings)
    _print(out, reports, output)
    if html is not None:
        _write_html(html, reports)
    worst = max((report.verdict.worst or 0 for report in reports), default=0)
    raise SystemExit(CRITICAL if worst >= 3 else 0)


def _are_runs(targets: list[str]) -> bool:
    return bool(targets) and all(
        _RUN_ID.fullmatch(one) and not Path(one).exists() for one in targets
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {path}: {error}", UNUSABLE)


def _facts(said: list[str]) -> dict[str, str]:
    from nanwatch.contract.lines import flatten

    facts: dict[str, str] = {}
    for one in said:
        key, equals, value = one.partition("=")
        if equals:
            facts[key.strip()] = value.strip()
            continue
        try:
            nested = json.loads(_text_of(Path(one)))
        except ValueError as error:
            fail(f"{one}: expected KEY=VALUE or a JSON file: {error}", UNUSABLE)
        if not isinstance(nested, dict):
            fail(f"{one}: expected a JSON object of facts", UNUSABLE)
        facts |= flatten(nested)
    return facts


# --- reading -------------------------------------------------------------------------------------


def _readings(targets: list[str], told: Any, facts: Any, thresholds: Any, follow: bool) -> list:
    from nanwatch_server.backtest.logs import Reading
    from nanwatch_server.importers.source import Options

    options = Options(told=told, follow=follow)
    sources: list[Source] = []
    for target in targets:
        found = _found(Path(target).expanduser(), options)
        sources += found.sources
        for why in found.passed_over:
            _note(f"passed over: {why}")
    return [Reading(source, facts, thresholds) for source in sources]


def _found(path: Path, options: Options) -> Found:
    """The logs under a path; of one that is followed, as soon as there is the first."""
    from nanwatch_server.importers.discover import find
    from nanwatch_server.importers.source import NothingYetError, UnusableError

    waiting = False
    try:
        while True:
            try:
                return find(path, options)
            except NothingYetError as error:
                if not waiting:
                    _note(f"waiting for the first log: {error}; Ctrl-C ends it")
                waiting = True
                time.sleep(FOLLOW_S)
            except (UnusableError, OSError) as error:
                _unusable(str(error))
    except KeyboardInterrupt:
        _unusable(f"stopped before there was a log in {path}")


def _unusable(message: str) -> NoReturn:
    fail(message, UNUSABLE)


def _judge(readings: list[Reading], follow: bool, quiet: bool) -> list[Reading]:
    """Read and judge; those that could be read."""
    sizes = [_size(one) for one in readings]
    total = sum(sizes)
    good: list[Reading] = []
    with byte_bar("checking", total, total >= BAR_BYTES and not follow) as advance:
        before = 0
        for one, size in zip(readings, sizes, strict=True):
            if why := _judged(one, lambda done, before=before: advance(before + done)):
                _note(f"passed over: {why}") if len(readings) > 1 else _unusable(why)
            else:
                good.append(one)
            before += size
    if not good:
        _unusable("nothing could be read")
    if follow:
        _stay(good, quiet)
    return good


def _size(one: Reading) -> int:
    """Bytes of one log; 0 of one that was deleted meanwhile, for reading it says so."""
    try:
        return one.source.size
    except OSError:
        return 0


def _judged(one: Reading, advance: Callable[[int], object]) -> str:
    """Judge what there is of one log; why it cannot be read, empty if it can."""

    def work() -> None:
        for items in one.source.read():
            one.take(items)
            advance(one.source.done)

    return _trouble(one, work)


def _trouble(one: Reading, work: Callable[[], object]) -> str:
    """Do some work on one log; why it failed, empty if it did not."""
    from nanwatch_server.importers.source import UnusableError

    try:
        work()
    except (UnusableError, OSError) as error:
        return str(error)
    except Exception as error:  # must not end in Python's exit code 1, which says "critical"
        what = f"{type(error).__name__}: {error}"
        return f"{one.source.path}: an error of nanwatch's own, please report it: {what}"
    return ""


def _stay(readings: list[Reading], quiet: bool) -> None:
    """Read on until Ctrl-C, or until every log has said its end."""
    _note("following; Ctrl-C ends it with the report")
    for one in [] if quiet else readings:
        news = _News(one.source.name)
        for incident in one.trial.verdict().incidents:
            news.tell(incident)
        one.trial.told = news.tell
    idle = dict.fromkeys(map(id, readings), 0.0)
    troubles: set[str] = set()
    try:
        while not all(getattr(one.source, "end", None) for one in readings):
            for one in readings:
                _poll(one, idle, troubles)
            time.sleep(FOLLOW_S)
    except KeyboardInterrupt:
        _note("stopped following")


def _poll(one: Reading, idle: dict[int, float], troubles: set[str]) -> None:
    before = one.source.done
    whys = [_judged(one, lambda done: None)]
    idle[id(one)] = idle[id(one)] + FOLLOW_S if one.source.done == before else 0.0

    def settle() -> None:
        one.take(one.source.release() if idle[id(one)] >= IDLE_S else (), whole=True)
        now = time.time()
        if one.trial.clock and 0 <= now - one.trial.time < CLOCK_S:
            one.trial.quiet_until(now)

    whys.append(_trouble(one, settle))
    for why in whys:
        if why and why not in troubles:
            troubles.add(why)
            _note(f"{one.source.name} cannot be read just now: {why}")


class _News:
    """What is said of one log while it is followed: every trouble once, again when it is worse, has
    another cause, is over or is back; not for every finding that joins it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: dict[str, set[tuple[str, str]]] = {}
        """Incident → (state, cause) that were said."""

    def tell(self, incident: Any) -> None:
        """Say it unless it was said."""
        over = incident.resolved_step is not None
        state = "resolved" if over else incident.severity.word
        said = self._said.setdefault(incident.id, set())
        line = (state, "" if over else incident.diagnosis.syndrome)
        if line in said:
            return
        if over:
            said.clear()
        else:
            said.discard(("resolved", ""))
        said.add(line)
        console.print(
            Text.assemble(
                (f"{state:<9}", "bold"),
                f"{self._name}: {incident.diagnosis.title} (since step {incident.onset_step})",
            ),
            soft_wrap=True,
        )


def _finished(one: Reading) -> Report:
    verdict = one.finish()
    source = one.source
    _say_mapping(source)
    steps = f"steps {verdict.first_step} to {verdict.last_step}" if verdict.points else "no points"
    about = f"{source.path} · {source.format} · {steps} · {verdict.points:,} points"
    for lost in source.problems.lost:
        about += f" · LOST: {lost}"
    return Report(source.name, str(source.path), about, verdict, one.trial.traces)


def _of_use(reports: list[Report], readings: list[Reading]) -> list[Report]:
    """Without the files that are no logs or hold no number; leaves if nothing is left."""
    useful: list[Report] = []
    for report, one in zip(reports, readings, strict=True):
        found = report.verdict
        died = (found.worst or 0) >= 3  # an exception may be all that was logged
        if died or (found.points and one.source.known):
            useful.append(report)
        elif len(readings) > 1:
            _note(f"passed over: {_why_not(one.source)}")
    if not useful:
        _unusable(_why_not(readings[0].source))
    return useful


def _why_not(source: Source) -> str:
    """Why nothing in a file could be judged, and what to do."""
    path, places = source.path, source.mapper.places
    first = f": {source.problems.shown[0]}" if source.problems.shown else ""
    if source.known:
        kinds = list(dict.fromkeys(one.kind for one in source.rows.series if one.kind != "custom"))
        said = ", ".join(kinds[:COLUMNS_SHOWN])
        return f"expected numbers in {path}, found none for {said}{first}"
    if not places:
        return f"nothing in {path} could be read{first or ': it holds no numbers'}"
    names = ", ".join(list(places)[:COLUMNS_SHOWN])
    return (
        f"no column of {path} is known (found: {names}); say what they are with "
        "--map NAME=KIND, for example --map 'my loss=loss'"
    )


# --- saying --------------------------------------------------------------------------------------


def _note(text: str) -> None:
    console.print(Text(f"nanwatch: {text}"), soft_wrap=True)


def _say_mapping(source: Source) -> None:
    """Which column was taken for what: on standard error, for one to look at."""
    from nanwatch_server.importers.rows import is_read

    places = source.mapper.places
    if places:
        _note(f"columns of {source.name}:")
    for name, place in list(places.items())[:COLUMNS_SHOWN]:
        said = source.mapper.notes.get(name, "")
        if place is None:
            meaning = said or "left out"
        else:
            kept = place.kind == "custom"
            meaning = str(place) if not kept else "no known kind, no rule reads it"
            if kept and place.stage == "train" and is_read(place.kind, place.layer):
                meaning = "no known kind; taken for a loss on replayed samples by its name"
            meaning += f" ({said})" if said else ""
        console.print(Text(f"  {name} → {meaning}"), soft_wrap=True)
    if len(places) > COLUMNS_SHOWN:
        console.print(Text(f"  … and {len(places) - COLUMNS_SHOWN} more"))
    for name in source.mapper.unused:
        _note(f"--map {name}: no column of {source.name} has this name")
    problems = source.problems
    for text in problems.shown:
        _note(f"{source.name}: {text}")
    if problems.count > len(problems.shown):
        _note(f"{source.name}: {problems.count} problems in all; what could be read was read")


def _print(out: Console, reports: list[Report], output: str) -> None:
    if output == "json":
        plain = [report.verdict.plain() for report in reports]
        runs = [
            {"run": report.name, "file": report.file} | found
            for report, found in zip(reports, plain, strict=True)
        ]
        one = plain[0] if len(plain) == 1 else {"runs": runs}
        print(json.dumps(one, ensure_ascii=False, allow_nan=False))
        return
    from nanwatch.cli.check_text import show_verdict

    for report in reports:
        show_verdict(out, report.name, report.about, report.verdict, report.traces)


def _write_html(path: Path, reports: list[Report]) -> None:
    try:
        from nanwatch_server.report.check_page import page
    except ImportError as error:
        server_part_missing(error)
    try:
        path.write_text(page(reports), "utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error}", UNUSABLE)
    _note(f"wrote {path}")

"""Options: what is refused at once, and what is found in the environment."""

from __future__ import annotations

import argparse
import json
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest

import nanwatch
from nanwatch.config import Options, flatten, resolve


def options(**given: Any) -> Options:
    defaults: dict[str, Any] = {
        "project": "p",
        "name": None,
        "config": None,
        "control": None,
        "server": None,
        "token": None,
        "mode": None,
        "run_id": "ab" * 16,
    }
    return resolve(**{**defaults, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "on"}, "online, offline, off"),
        ({"project": ""}, "non-empty"),
        ({"control": {"lr": 1}}, "nanwatch.Control"),
        ({"server": "ftp://x"}, "http://127.0.0.1:8787"),
        ({"server": "http://gpu-box:8787"}, "clear text"),
    ],
)
def test_bad_arguments_say_what_was_expected(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options(**given)


@pytest.mark.parametrize("bounds", [(1, 0.1), (0, 1), (float("nan"), 1), 3, (True, 1), ("a", "b")])
def test_bad_bounds_are_refused(bounds: Any) -> None:
    with pytest.raises(ValueError, match=r"Control\(lr=…\) expects"):
        nanwatch.Control(lr=bounds)


def test_local_server_is_found_by_its_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NANWATCH_DATA_DIR", str(tmp_path))
    (tmp_path / "server.json").write_text(
        json.dumps({"url": "http://127.0.0.1:9", "ingest_token": "t"})
    )
    found = options()
    assert (found.server, found.token) == ("http://127.0.0.1:9", "t")
    assert options(server="https://other", token="u").token == "u"


def test_launch_permission_gives_way_to_the_script(monkeypatch: Any) -> None:
    monkeypatch.setenv("NANWATCH_LAUNCH_CONTROL", '{"lr_factor": [0.001, 1], "stop": true}')
    launched = options().offer
    assert launched is not None and launched.granted_by == "launch"
    assert launched.lr_factor == (0.001, 1.0) and launched.stop and not launched.checkpoint
    scripted = options(control=nanwatch.Control(checkpoint=True)).offer
    assert scripted is not None and scripted.granted_by == "script" and not scripted.stop
    monkeypatch.setenv("NANWATCH_LAUNCH_CONTROL", "none")
    assert options().offer is None


def test_configuration_of_any_shape_becomes_flat_text() -> None:
    nested = {"optim": {"lr": 1e-3, "betas": (0.9, 0.99)}, "amp": False}
    assert flatten(nested) == {"optim.lr": "0.001", "optim.betas": "(0.9, 0.99)", "amp": "False"}
    assert flatten(argparse.Namespace(T=256)) == {"T": "256"}
    assert flatten(None) == {}
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert len(flatten(loop)) <= 1
    assert len(flatten({str(n): n for n in range(10_000)})) == 500


def test_names_are_made_harmless() -> None:
    assert options(project="a b/<script>").project == "a_b/_script_"


def test_what_a_file_says_never_ends_a_training(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NANWATCH_DATA_DIR", str(tmp_path))
    for told in (
        {"url": "nonsense", "ingest_token": "t"},
        {"url": 3, "ingest_token": "t"},
        {"url": "file:///etc/passwd", "ingest_token": "t"},
        {"url": "http://127.0.0.1:9", "ingest_token": "t", "pid": float("inf")},
    ):
        (tmp_path / "server.json").write_text(json.dumps(told))
        assert options().server == ""
    # A server that was told to listen on an address of this machine.
    (tmp_path / "server.json").write_text('{"url": "http://10.0.0.5:87", "ingest_token": "t"}')
    assert options().server == "http://10.0.0.5:87"


def test_the_data_directory_stays_when_the_script_moves(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANWATCH_DATA_DIR", "data")
    assert options().data_dir == tmp_path / "data"
    monkeypatch.setenv("NANWATCH_DATA_DIR", "~nobody-of-this-name/x")
    with pytest.raises(ValueError, match="nobody's home"):
        options()
    monkeypatch.delenv("NANWATCH_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # to be ignored, says its specification
    assert options().data_dir.is_absolute() and "relative" not in options().data_dir.parts


class Unset(UserDict[str, Any]):
    """As a configuration of Hydra with a value that nobody gave."""

    def __getitem__(self, key: str) -> Any:
        if key == "seed":
            raise LookupError("missing mandatory value")
        return super().__getitem__(key)

    def __str__(self) -> str:
        raise LookupError("cannot be shown")


def test_mappings_of_other_libraries_are_read_as_dicts() -> None:
    config = Unset(optim=UserDict(lr=1e-3), seed=0)
    assert flatten(config) == {"optim.lr": "0.001", "seed": "(LookupError)"}
    assert flatten({"a": {"b": {"c": {"d": {"e": {"f": config}}}}}}) == {
        "a.b.c.d.e.f": "(LookupError)"
    }

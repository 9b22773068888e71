"""Options of a run: what the script passes, what the environment adds, and the checks of both.

The only place where the SDK reads the environment. Called by `run.init` and the CLI.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nanwatch import local_server
from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.limits import to_name

MODES = ("online", "offline", "off")
GUARDS = ("off", "skip")
SPOOL_BYTES_DEFAULT = 512 << 20
CONFIG_KEYS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What people may do to this run from the page. Everything not granted is forbidden.

    The bounds are enforced inside the training process, whatever a server says.
    """

    lr: tuple[float, float] | None = None
    """Least and greatest learning rate that a command may set."""
    lr_factor: tuple[float, float] | None = None
    """Least and greatest factor on the learning rate that the script or scheduler asks for."""
    checkpoint: bool = False
    """May save a checkpoint of all modules and optimizers."""
    stop: bool = False
    """May end the training cleanly (raises `StopTraining` at the close of an attempt)."""
    tracing: bool = False
    """May switch on deep tracing for some attempts, which changes nothing but costs time."""

    def __post_init__(self) -> None:
        for name in ("lr", "lr_factor"):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
                raise ValueError(
                    f"Control({name}=…) expects (least, greatest), for example (1e-7, 1e-2); "
                    f"got {bounds!r}"
                )
            low, high = bounds
            if not all(_is_number(b) and b > 0 for b in bounds) or low > high:
                raise ValueError(
                    f"Control({name}=…) expects two finite numbers above 0, the lesser first; "
                    f"got {bounds!r}"
                )
            object.__setattr__(self, name, (float(low), float(high)))

    def offer(self, granted_by: str = "script") -> ControlOffer:
        """The same as sent to the server."""
        return ControlOffer(
            lr=self.lr,
            lr_factor=self.lr_factor,
            checkpoint=self.checkpoint,
            stop=self.stop,
            tracing=self.tracing,
            granted_by=granted_by,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a run needs to know, resolved."""

    project: str
    name: str
    mode: str
    server: str
    """http(s) address of the server; empty if none is known."""
    token: str
    data_dir: Path
    spool_bytes: int
    exit_timeout_s: float
    local: bool = False
    """No server was named: the one is meant that this user runs on this machine."""
    autostart: bool = False
    """May start that server if there is none."""
    budget: float | None = None
    """Hard cap on the SDK's share of the step time (0.005 is half a per cent); None: adaptive."""
    guard: str = "off"
    """`skip` holds an update whose gradients are not finite."""
    config: dict[str, str] = field(default_factory=dict)
    offer: ControlOffer | None = None


class BadDirectory(ValueError):
    """NANWATCH_DATA_DIR names no directory that can be found."""


def data_directory() -> Path:
    """Where spools, checkpoints and the server's address file lie; absolute, since scripts change
    their directory. Raises `BadDirectory`."""
    given = os.environ.get("NANWATCH_DATA_DIR")
    if given:
        try:
            return Path(given).expanduser().absolute()
        except RuntimeError:
            raise BadDirectory(
                f"NANWATCH_DATA_DIR expects a directory; got {given!r}, whose ~ is nobody's home"
            ) from None
    base = os.environ.get("XDG_DATA_HOME", "")
    try:
        return Path(base if os.path.isabs(base) else "~/.local/share").expanduser() / "nanwatch"
    except RuntimeError:  # no HOME and no passwd entry: containers with a random user
        return _temporary_directory()


def _temporary_directory() -> Path:
    """A directory of this user alone; its name can be guessed, so others may have been there."""
    path = Path(tempfile.gettempdir()) / f"nanwatch-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and not found.st_mode & 0o077
        ):
            return path
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="nanwatch-"))


def resolve(
    *,
    project: str | None,
    name: str | None,
    config: Any,
    control: Control | None,
    server: str | None,
    token: str | None,
    mode: str | None,
    run_id: str,
    guard: str | None = None,
) -> Options:
    """Options from the arguments of `init`, then the environment, then the local server's file.

    Raises `ValueError` for a bad argument: the one moment when nanwatch may raise.
    """
    env = os.environ
    mode = mode or env.get("NANWATCH_MODE") or "online"
    if mode not in MODES:
        raise ValueError(f"mode expects one of {', '.join(MODES)}; got {mode!r}")
    if project is None:
        project = env.get("NANWATCH_PROJECT") or "default"
    if not isinstance(project, str) or not project:
        raise ValueError(f"project expects a non-empty text; got {project!r}")
    if control is not None and not isinstance(control, Control):
        raise ValueError(f"control expects a nanwatch.Control(…); got {control!r}")
    guard = guard or env.get("NANWATCH_GUARD") or "off"
    if guard not in GUARDS:
        raise ValueError(f"guard expects one of {', '.join(GUARDS)}; got {guard!r}")
    data_dir = data_directory()
    server = server or env.get("NANWATCH_URL") or ""
    token = token or env.get("NANWATCH_TOKEN") or ""
    local = not server
    if local:
        server, found = _local_server(data_dir)
        token = found or token
    else:
        check_address(server)
    project = to_name(project)
    granted_by, offer = "script", control
    if offer is None and env.get("NANWATCH_LAUNCH_CONTROL"):
        granted_by, offer = "launch", control_from_text(env["NANWATCH_LAUNCH_CONTROL"])
    return Options(
        project=project,
        name=to_name(
            str(name) if name else env.get("NANWATCH_RUN_NAME") or f"{project}-{run_id[:6]}"
        ),
        mode=mode,
        server=server.rstrip("/"),
        token=token,
        data_dir=data_dir,
        spool_bytes=_environment_int("NANWATCH_SPOOL_BYTES", SPOOL_BYTES_DEFAULT),
        exit_timeout_s=2.0,
        local=local and mode == "online",
        autostart=local and mode == "online" and _may_autostart(env),
        budget=_environment_share("NANWATCH_BUDGET"),
        guard=guard,
        config=flatten(config),
        offer=offer.offer(granted_by) if offer is not None else None,
    )


def _may_autostart(env: Mapping[str, str]) -> bool:
    """Rank 0 of node 0 alone starts a server, and nobody where NANWATCH_AUTOSTART=0."""
    if env.get("NANWATCH_AUTOSTART", "1").lower() in ("0", "false", "no", "off"):
        return False
    ranks = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK")
    return all(env.get(name, "0") in ("", "0") for name in ranks)


def _environment_int(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise ValueError(f"{name} expects a whole number above 0; got {text!r}")
    return value


def _environment_share(name: str) -> float | None:
    """A share of the step time, written `0.005` or `0.5%`; None if it is not set."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(
            f"{name} expects a share from 0 to 1, or per cent as in 0.5%; got {text!r}"
        )
    return value


def check_address(server: str) -> None:
    """Raises `ValueError` for an address that no token may be sent to."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"server expects an address such as http://127.0.0.1:8787; got {server!r}")
    loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    if parts.scheme == "http" and not loopback and not os.environ.get("NANWATCH_INSECURE_HTTP"):
        raise ValueError(
            f"refusing to send a token in clear text to {parts.hostname}: use https, an SSH "
            "forward to 127.0.0.1, or set NANWATCH_INSECURE_HTTP=1"
        )


def _local_server(data_dir: Path) -> tuple[str, str]:
    """Address and token of the server that this user started on this machine, if any."""
    found = local_server.read(data_dir)
    return (found.url, found.token) if found is not None else ("", "")


def control_from_text(text: str) -> Control | None:
    """The launch command's permission: `none`, or the JSON that `nanwatch run` passes on."""
    if text == "none":
        return None
    given = json.loads(text)
    factor = given.get("lr_factor")
    return Control(
        lr_factor=tuple(factor) if factor else None,
        checkpoint=bool(given.get("checkpoint")),
        stop=bool(given.get("stop")),
        tracing=bool(given.get("tracing")),
    )


def flatten(config: Any) -> dict[str, str]:
    """Nested configuration as `{"optim.lr": "0.001"}`: at most 500 keys, 500 characters each."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any, depth: int) -> None:
        if len(flat) >= CONFIG_KEYS_MAX:
            return
        if not isinstance(value, Mapping) and hasattr(value, "__dict__") and not callable(value):
            value = vars(value)
        if isinstance(value, Mapping) and depth < 6:
            for key in list(value):
                name = f"{prefix}.{key}" if prefix else str(key)
                try:
                    visit(name, value[key], depth + 1)
                except Exception as error:  # of the user's own class: a value that is not set
                    flat[name[:200]] = f"({type(error).__name__})"
        elif prefix:
            flat[prefix[:200]] = str(value)[:500]

    if config is not None:
        try:
            visit("", config, 0)
        except Exception as error:
            flat["config"] = f"({type(error).__name__})"
    return flat


def script_name() -> str:
    """Name of the program that is running."""
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "interactive"

"""nanwatch: watch a live PyTorch training from inside, and let people act on it.

    import nanwatch
    run = nanwatch.init(project="my-project", config=vars(args))

Names are resolved on first use, so that importing this package costs next to nothing and loads
neither torch nor numpy nor anything of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Control",
    "NullRun",
    "Run",
    "StopTraining",
    "__version__",
    "finite",
    "init",
    "log",
    "watch",
]

if TYPE_CHECKING:
    from nanwatch.config import Control
    from nanwatch.control.inbox import StopTraining
    from nanwatch.run import NullRun, Run, finite, init, log, watch

_HOMES = {
    "Control": "nanwatch.config",
    "StopTraining": "nanwatch.control.inbox",
    "Run": "nanwatch.run",
    "NullRun": "nanwatch.run",
    "init": "nanwatch.run",
    "finite": "nanwatch.run",
    "log": "nanwatch.run",
    "watch": "nanwatch.run",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nanwatch' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

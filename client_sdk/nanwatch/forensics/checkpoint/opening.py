"""Opens the files of a checkpoint: `torch.load` with weights only, memory-mapped, or safetensors.

Never falls back to an unpickler that runs code. Called in a child, whose limits are set before.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from nanwatch.forensics.checkpoint.formats import Unusable, format_of

OLDEST_TORCH = (2, 10)
"""Before 2.6 `weights_only` could be made to run code (CVE-2025-32434), before 2.10 to write
outside its memory (CVE-2026-24747)."""

NAMES_SHOWN = 12

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:global|class|operand)[^\w]*([\w.]+\.[\w]+)")

_NEVER = (
    "builtins", "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy",
    "pickle", "_pickle", "marshal", "ctypes", "types", "code", "codecs", "asyncio", "threading",
    "multiprocessing", "pty", "webbrowser", "urllib", "http", "operator", "functools", "torch",
    "pip", "pdb", "timeit", "tempfile", "pathlib", "io", "nanwatch",
)  # fmt: skip
"""Modules of which nothing can be allowed: their functions run code or touch files."""

_HARMLESS = (
    "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
    "torch.torch_version.TorchVersion", "types.SimpleNamespace",
)  # fmt: skip
"""But for these, which only hold data."""


class Opened:
    """What lies in one file: nested containers of tensors, or tensors by name read one by one."""

    def __init__(self, kind: str, tree: Any, notes: list[str]) -> None:
        self.kind, self.tree, self.notes = kind, tree, notes


class Stored:
    """A tensor that is still in its file."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def load(self) -> Any:
        """The tensor; memory-mapped as far as the library does."""
        return self._file.get_tensor(self._name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Without reading it."""
        return tuple(self._file.get_slice(self._name).get_shape())

    @property
    def floating(self) -> bool:
        """True for real numbers."""
        return str(self._file.get_slice(self._name).get_dtype()).startswith(("F", "BF"))


def prepare(allow: list[str]) -> AbstractContextManager[Any]:
    """Import what opening needs, before the child's limits: a context that allows `allow` too.

    Raises Unusable where torch is missing or too old, or a name cannot be allowed.
    """
    try:
        import torch
    except ImportError as error:
        raise Unusable(
            f"PyTorch is needed to read checkpoints: pip install torch ({error})"
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", str(torch.__version__))[:2])
    if version < OLDEST_TORCH:
        raise Unusable(
            f"torch {torch.__version__} has known holes in its safe reader: expected 2.10 or "
            "newer. Upgrade it, or diagnose the file on another machine"
        )
    import torch.sparse
    import torch.utils.serialization

    try:
        import safetensors  # noqa: F401
    except ImportError:
        pass
    # By the name that the file has: NumPy's own have moved since old files were written.
    wanted = [(_resolve(name), name) for name in allow]
    if "numpy.dtype" in allow:
        # The types of its numbers are classes of their own, which the file does not name.
        types = vars(importlib.import_module("numpy.dtypes"))
        wanted += [(t, f"numpy.dtypes.{name}") for name, t in types.items() if isinstance(t, type)]
    return _allowing(wanted)


@contextmanager
def _allowing(wanted: list[Any]) -> Iterator[None]:
    import torch

    checks: Any = torch.sparse.check_sparse_tensor_invariants
    # With the invariants on, torch checks the indices of sparse tensors before anyone uses them.
    with torch.serialization.safe_globals(wanted), checks(True):
        yield


def _resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if not module or not _may_allow(name):
        raise Unusable(
            f"--allow {name}: expected the full name of a class that only holds data, such as "
            "argparse.Namespace; functions of the standard library and of torch cannot be allowed"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Unusable(f"--allow {name}: it cannot be imported here ({error})") from error


def _may_allow(name: str) -> bool:
    return name in _HARMLESS or name.split(".")[0] not in _NEVER


def open_file(path: Path) -> Opened:
    """Open one file. Raises Unusable, with a message for the user."""
    kind = format_of(path)
    if kind == "safetensors":
        return _open_safetensors(path)
    import torch

    legacy = kind != "torch"
    # By its name alone torch would take a file for safetensors, whatever is in it.
    plain = legacy or path.suffix == ".safetensors"
    notes = ["written in torch's old format: read into memory as a whole"] if legacy else []
    try:
        if plain:
            with open(path, "rb") as file:
                tree = torch.load(file, map_location="cpu", weights_only=True)
        else:
            tree = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError as error:
        raise Unusable(_too_large(path)) from error
    except Exception as error:
        raise Unusable(_refusal(path, kind, error)) from error
    return Opened(kind, tree, notes)


def _open_safetensors(path: Path) -> Opened:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise Unusable(
            "the library safetensors is needed for this file: pip install safetensors"
        ) from error
    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        tree = {name: Stored(file, name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Unusable(f"{path.name} is damaged: {error}") from error
    return Opened("safetensors", tree, [])


def _too_large(path: Path) -> str:
    return (
        f"{path.name} asks for more memory than a file of {path.stat().st_size:,} bytes can need: "
        "it is damaged or hostile, and was not read further"
    )


def _refusal(path: Path, kind: str, error: Exception) -> str:
    text = str(error)
    if "allocate memory" in text or "bad_alloc" in text or "Cannot allocate" in text:
        return _too_large(path)
    names = _wanted(path, kind) or [a or b for a, b in _GLOBAL.findall(text)]
    if names:
        return _wants_code(path, sorted(set(names)))
    first = text.strip().partition("\n")[0]
    if "weights_only" in first.lower() or "weightsunpickler" in first.lower().replace(" ", ""):
        first = text.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or first
    return f"{path.name} cannot be read: {type(error).__name__}: {first[:400]}"


def _wanted(path: Path, kind: str) -> list[str]:
    """Names that the file's pickle asks for and that are not known to be harmless."""
    import torch

    if kind != "torch":
        return []
    try:
        with open(path, "rb") as file:
            return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:
        return []


def _wants_code(path: Path, names: list[str]) -> str:
    shown = names[:NAMES_SHOWN]
    more = f"\n  … and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    listed = "".join(f"\n  {name}" for name in shown) + more
    lines = (
        f"{path.name} was not opened: besides tensors it asks for code to be run or objects of "
        f"these names to be made:{listed}\nWhere it was written, save numbers only:\n"
        '  torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)'
    )
    if all(map(_may_allow, shown)) and not more:
        allowed = " ".join(f"--allow {name}" for name in shown)
        lines += f"\nor, if you know that these names only hold data, call again with\n  {allowed}"
    return lines

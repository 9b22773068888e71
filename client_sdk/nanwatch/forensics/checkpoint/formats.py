"""Which format a file has, by its first bytes, and whether its shell is sound. No torch.

Nothing is unpickled here. Called by the limited child; `parts` also says what a folder is made of.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

ENTRIES_MOST = 1_000_000
SAFETENSORS_HEADER_MOST = 100_000_000
"""The limit that the library has too, in bytes."""

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What `torch.save` began a file with before 1.6: a number, pickled."""

_OTHERS = (
    (b"\x89HDF", "an HDF5 file (Keras)", "only PyTorch checkpoints are read"),
    (b"GGUF", "a GGUF file", "diagnose the checkpoint that it was converted from"),
    (b"\x93NUMPY", "a NumPy array", "save a dict of tensors by torch.save"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first (gunzip)"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first (unxz)"),
    (b"(\xb5/\xfd", "compressed by zstd", "unpack it first (unzstd)"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself (git lfs pull)"),
    (b"<!DOCTYPE", "a web page", "the download failed: look at it as text"),
    (b"<html", "a web page", "the download failed: look at it as text"),
)


class Unusable(Exception):
    """It cannot be looked at; the message says what was expected, what came, and what to do."""


class Part(NamedTuple):
    """One file to read, and the section its tensors belong to (empty for the file's own)."""

    path: Path
    section: str = ""


class Parts(NamedTuple):
    """What a path is made of."""

    layout: str
    files: list[Part]
    notes: list[str]


def format_of(path: Path) -> str:
    """`torch`, `torch (legacy)` or `safetensors`. Raises Unusable for anything else."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise Unusable(f"{path.name} is empty (0 bytes): the save never wrote it, or the disk full")
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path, size)
    if head.startswith(_LEGACY):
        return "torch (legacy)"
    if _is_safetensors(head, size):
        return "safetensors"
    for magic, what, advice in _OTHERS:
        if head.startswith(magic):
            raise Unusable(f"{path.name} is {what}, no PyTorch checkpoint: {advice}")
    if head[257:262] == b"ustar":
        raise Unusable(
            f"{path.name} is a tar file; if an old torch wrote it, load it once with that version "
            "and save it again by torch.save"
        )
    if head[:1] == b"\x80":
        raise Unusable(
            f"{path.name} is a plain pickle, not written by torch.save: opening one runs whatever "
            "it says, so nanwatch does not. Save a dict of tensors by torch.save instead"
        )
    raise Unusable(
        f"expected a checkpoint of torch.save or safetensors, got {path.name}, which begins with "
        f"{head[:8].hex(' ')}"
    )


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":
        return False
    if length > SAFETENSORS_HEADER_MOST:
        raise Unusable(
            f"its safetensors header claims {length:,} bytes (at most {SAFETENSORS_HEADER_MOST:,} "
            "are allowed): the file is damaged or hostile"
        )
    if 8 + length > size:
        raise Unusable(
            f"it is cut off: its safetensors header needs {8 + length:,} bytes, the file has "
            f"{size:,}. Copy it again, or take the checkpoint before"
        )
    return True


def _zip_format(path: Path, size: int) -> str:
    """Check the shell of a zip archive without reading what is in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Unusable(
            f"{path.name} is cut off or damaged: it begins like an archive of torch.save, and its "
            f"directory at the end is missing or broken ({error}). The writer was killed, the disk "
            "was full or the copy is not complete: take the checkpoint before"
        ) from error
    names = [entry.filename for entry in entries]
    leaves = {name.partition("/")[2] for name in names}
    if "constants.pkl" in leaves:
        raise Unusable(
            f"{path.name} is a TorchScript archive, which holds code: save the model's "
            "state_dict() by torch.save instead"
        )
    if "data.pkl" not in leaves:
        kind = "an archive of torch.export" if any("models/" in n for n in names) else "a zip file"
        raise Unusable(
            f"{path.name} is {kind} without data.pkl, no checkpoint of torch.save: save the "
            "model's state_dict() by torch.save instead"
        )
    hostile = _hostile(entries, size)
    if hostile:
        raise Unusable(f"{path.name} is not as torch.save writes it: {hostile}. It was not opened")
    return "torch"


def _hostile(entries: list[zipfile.ZipInfo], size: int) -> str:
    """Why an archive cannot have come from torch.save; empty if it can."""
    if len(entries) > ENTRIES_MOST:
        return f"{len(entries):,} entries"
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        return "two entries have one name"
    packed = next((e for e in entries if e.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        return f"the entry {packed.filename!r} is compressed (a small file may hide a huge one)"
    if sum(entry.file_size for entry in entries) > size:
        return "its entries are larger than the file, so they overlap or are cut off"
    return ""


# --- folders -------------------------------------------------------------------------------------

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "diffusion_pytorch_model.safetensors",
)
_BESIDE = (("optimizer.pt", "optimizer"), ("optimizer.bin", "optimizer"), ("scaler.pt", "scaler"))
_PLAIN = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def parts(path: Path) -> Parts:
    """The files of a checkpoint: itself, or those of a folder that is one.

    Raises Unusable for a folder that is none, or of a kind that cannot be read.
    """
    if path.is_file():
        return Parts("", [Part(path)], [])
    if not path.exists():
        raise Unusable(f"there is no {path}")
    if not path.is_dir():
        raise Unusable(f"expected a file or a folder, got {path}, which is neither")
    _refuse_distributed(path)
    files: list[Part] = []
    for name in _INDEXES:
        if not files and (path / name).is_file():
            files = _shards(path, name)
    for name in _SINGLE:
        if not files and (path / name).is_file():
            files = [Part(path / name)]
    if not files:
        found = sorted(p.name for p in path.iterdir() if p.suffix in _PLAIN)
        if len(found) == 1:
            return Parts("", [Part(path / found[0])], [])
        listed = f": it has {len(found)}, name one ({', '.join(found[:5])})" if found else ""
        raise Unusable(f"expected a checkpoint in {path}{listed}")
    beside = [Part(path / name, section) for name, section in _BESIDE if (path / name).is_file()]
    # States of random generators need classes of NumPy, training_args.bin those of transformers.
    left = [n for n in ("rng_state.pth", "training_args.bin") if (path / n).is_file()]
    notes = [f"not looked into: {', '.join(left)}"] if left else []
    return Parts("transformers", files + beside, notes)


def trainer_state(path: Path) -> dict[str, float]:
    """Step and epoch of `trainer_state.json` in a folder of transformers; empty without one."""
    try:
        state = json.loads((path / "trainer_state.json").read_text("utf-8"))
        found = {key: state.get(key) for key in ("global_step", "epoch")}
    except (OSError, ValueError, AttributeError):
        return {}
    return {key: float(v) for key, v in found.items() if isinstance(v, int | float)}


def _shards(folder: Path, index: str) -> list[Part]:
    try:
        weights = json.loads((folder / index).read_text("utf-8"))["weight_map"]
        names = list(dict.fromkeys(str(name) for name in weights.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{index} is no index of shards: {type(error).__name__}: {error}") from error
    for name in names:
        if Path(name).name != name:
            raise Unusable(f"{index} names a file outside its folder: {name!r}")
        if not (folder / name).is_file():
            raise Unusable(
                f"{index} names {name}, which is not there: copy the {len(names)} shards again"
            )
    return [Part(folder / name) for name in names]


def _refuse_distributed(path: Path) -> None:
    if (path / ".metadata").is_file() or list(path.glob("*.distcp")):
        raise Unusable(
            f"{path.name} is a sharded checkpoint of torch.distributed.checkpoint, which is not "
            "read. Put it together first:\n"
            f"  python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} whole.pt"
        )
    if list(path.glob("**/zero_pp_rank_*")) or list(path.glob("**/mp_rank_*_model_states.pt")):
        raise Unusable(
            f"{path.name} is a checkpoint of DeepSpeed, spread over its ranks. Put it together "
            "first, with the script that DeepSpeed wrote beside it:\n"
            f"  python zero_to_fp32.py {path} whole"
        )
    if (path / "_CHECKPOINT_METADATA").exists() or list(path.glob("*.ocdbt")):
        raise Unusable(f"{path.name} is a checkpoint of Orbax (JAX): only PyTorch's are read")

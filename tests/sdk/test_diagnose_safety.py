"""Files that a stranger made: nothing in them runs, and none harms the process that asks."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nanwatch.forensics.checkpoint import parent
from nanwatch.forensics.checkpoint.facts import Job
from nanwatch.forensics.checkpoint.formats import Unusable, format_of
from sdk.checkpoints import facts_of, save, train

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


class Hostile:
    """Creates a file when it is unpickled by anything that runs code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def look(path: Path, **more: Any) -> Any:
    return parent.look(Job(str(path), **more), lambda progress: None)


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(Unusable) as error:
        look(path, **more)
    return str(error.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "bad.pt"
    content = {"model": train(steps=2)[0].state_dict(), "extra": Hostile(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    said = refusal(path)
    assert not marker.exists()
    assert "posix.system" in said and "torch.save(" in said
    assert "--allow" not in said, "what runs code is not offered"
    torch.load(path, weights_only=False)  # the trap works where code is run
    assert marker.exists()


def test_code_cannot_be_allowed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "bad.pt"
    torch.save({"x": torch.ones(2), "extra": Hostile(marker)}, path)
    for name in ("posix.system", "os.system", "builtins.eval", "subprocess.Popen", "system"):
        assert "cannot be allowed" in refusal(path, allow=[name])
    assert not marker.exists()


def test_data_classes_can_be_allowed(tmp_path: Path) -> None:
    import argparse

    path = save(tmp_path / "a.pt", train(steps=2)[0], args=argparse.Namespace(lr=0.1, T=256))
    said = refusal(path)
    assert "argparse.Namespace" in said and "--allow argparse.Namespace" in said
    facts = look(path, allow=["argparse.Namespace"])
    assert facts.config == {"lr": "0.1", "T": "256"}


def test_numbers_of_numpy_can_be_allowed(tmp_path: Path) -> None:
    import numpy as np

    path = save(tmp_path / "a.pt", train(steps=2)[0], best=np.float64(0.5), mean=np.ones(3))
    with pytest.raises(Unusable) as error:
        facts_of(path)
    names = [line.strip() for line in str(error.value).splitlines() if "numpy" in line[:9]]
    assert "numpy.dtype" in names
    assert len(facts_of(path, allow=names).tensors) == 9


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    model, optimizer = train(steps=2)
    whole = save(tmp_path / "whole.pt", model, optimizer).read_bytes()
    cut = tmp_path / "cut.pt"
    for share in (0.001, 0.1, 0.3, 0.5, 0.9, 0.99, 0.999):
        cut.write_bytes(whole[: max(4, int(share * len(whole)))])
        with pytest.raises(Unusable, match="cut off"):
            format_of(cut)
    assert "take the checkpoint before" in refusal(cut)


def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    """Bits flipped at random, in real children: each answers, and the parent goes on."""
    whole = bytearray(save(tmp_path / "whole.pt", *train(steps=2)).read_bytes())
    random.seed(0)
    for _ in range(3):
        damaged = bytearray(whole)
        for _ in range(40):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        path = tmp_path / "damaged.pt"
        path.write_bytes(damaged)
        try:
            assert look(path).bytes == len(whole)
        except Unusable as error:
            assert str(error)


def _archive(path: Path, change: Any) -> Path:
    """The archive of a real checkpoint, written again with `change(name, data) -> ZipInfo|…`."""
    model = train(steps=2)[0]
    source = save(path.with_suffix(".source"), model)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            change(new, entry.filename, old.read(entry))
    return path


def test_archives_that_torch_did_not_write(tmp_path: Path) -> None:
    def packed(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, data, zipfile.ZIP_DEFLATED)

    def twice(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, data)
        if name.endswith("data.pkl"):
            with pytest.warns(UserWarning, match="Duplicate"):
                new.writestr(name, data)

    with pytest.raises(Unusable, match="is compressed"):
        format_of(_archive(tmp_path / "packed.pt", packed))
    with pytest.raises(Unusable, match="one name"):
        format_of(_archive(tmp_path / "twice.pt", twice))
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("bomb/data.pkl", b"\0" * (64 << 20))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(Unusable, match="a small file may hide a huge one"):
        format_of(bomb)


def test_a_tensor_larger_than_its_file(tmp_path: Path) -> None:
    """A storage of four numbers, shown as 10^12 of them by strides of zero: read once."""
    path = tmp_path / "wide.pt"
    torch.save({"w": torch.ones(4)[:1].expand(10**6, 10**6), "v": torch.ones(3)}, path)
    facts = look(path)
    assert facts.tensors[0].shape == [10**6, 10**6]
    assert facts.tensors[0].elements <= 4
    # The same with strides of one, which would read behind the end.
    data = path.read_bytes()
    path.write_bytes(data.replace(b"K\x00K\x00\x86", b"K\x01K\x01\x86"))
    assert data != path.read_bytes()
    assert "cannot be read" in refusal(path)


def test_more_memory_than_the_file_can_need(tmp_path: Path) -> None:
    """A sparse tensor of three numbers whose dense form has 10^10 is never made dense; an index
    outside of its size is refused."""
    path = tmp_path / "sparse.pt"
    at = torch.tensor([[0, 5], [1, 2]])
    sparse = torch.sparse_coo_tensor(at, torch.tensor([1.0, float("inf")]), (10**5, 10**5))
    torch.save({"w": sparse}, path)
    facts = look(path)
    assert (facts.tensors[0].elements, facts.tensors[0].bad) == (2, 1)
    outside = torch.sparse_coo_tensor(
        torch.tensor([[0, 50], [1, 2]]), torch.ones(2), (10, 10), check_invariants=False
    )
    torch.save({"w": outside}, path)
    assert "cannot be read" in refusal(path)


def test_safetensors_with_a_false_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{" + b" " * 600)
    with pytest.raises(Unusable, match="damaged or hostile"):
        format_of(path)
    path.write_bytes(struct.pack("<Q", 5000) + b"{" + b" " * 600)
    with pytest.raises(Unusable, match="cut off"):
        format_of(path)
    header = b'{"w":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(Unusable, match="is damaged"):
        facts_of(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"\x1f\x8b" + b"0" * 30, "gunzip"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 30, "HDF5"),
        (b"GGUF" + b"0" * 30, "GGUF"),
        (b"\x80\x04\x95" + b"0" * 30, "plain pickle"),
        (b"hello, world", "expected a checkpoint of torch.save or safetensors"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=said):
        format_of(path)


def test_torchscript_holds_code(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    path = tmp_path / "script.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(Unusable, match="TorchScript"):
        format_of(path)


def test_a_child_that_dies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real child, ended by its processor time, and one that never starts."""
    path = save(tmp_path / "a.pt", train(steps=2)[0])
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    assert "ended early" in refusal(path)


@LINUX
def test_the_limits_hold(tmp_path: Path) -> None:
    """Everything that is refused to the child, tried in a process that is limited like it."""
    code = f"""
        import os, socket, subprocess, sys, threading
        import torch
        from nanwatch.forensics.checkpoint import limits
        held = limits.limit(0)
        assert held == ["processor time", "memory", "network", "programs", "writing"], held
        def refused(do):
            try:
                do()
            except (OSError, MemoryError, RuntimeError) as error:
                return True
            return False
        tries = {{
            "write": lambda: open({str(tmp_path / "new")!r}, "w"),
            "append": lambda: open({str(tmp_path / "old")!r}, "a"),
            "remove": lambda: os.unlink({str(tmp_path / "old")!r}),
            "rename": lambda: os.rename({str(tmp_path / "old")!r}, {str(tmp_path / "b")!r}),
            "directory": lambda: os.mkdir({str(tmp_path / "directory")!r}),
            "network": lambda: socket.socket(),
            "program": lambda: subprocess.run(["/bin/true"]),
            "shell": lambda: os.execv("/bin/true", ["true"]),
            "signal": lambda: os.kill(os.getppid(), 0),
            "memory": lambda: torch.zeros(1 << 29),
            "python memory": lambda: bytearray(2 << 30),
        }}
        print([name for name, do in tries.items() if not refused(do)])
        seen = []
        thread = threading.Thread(target=lambda: seen.append(refused(tries["network"])))
        thread.start(); thread.join()
        print(seen, open({str(tmp_path / "old")!r}).read())
    """
    (tmp_path / "old").write_text("kept")
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "[True] kept"]


@LINUX
def test_processor_time_ends(tmp_path: Path) -> None:
    code = """
        from nanwatch.forensics.checkpoint import limits
        limits.CPU_S = 1
        limits.limit(0)
        while True: pass
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, timeout=200, check=False)
    assert done.returncode < 0

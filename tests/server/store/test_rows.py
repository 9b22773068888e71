"""Many threads may read what is stored from the first moment on."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = '''
import sys, threading, types
from nanwatch_server.store.rows import pack, unpack

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    a: str
    b: int = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    x: str
    y: Inner | None = None
    z: tuple[Inner, ...] = ()
    r: float = 0.0
"""
sys.setswitchinterval(1e-6)
failed = []
for n in range(300):
    fresh = sys.modules[f"fresh{n}"] = types.ModuleType(f"fresh{n}")
    exec(SOURCE, fresh.__dict__)
    wanted = fresh.Outer(x="a", y=fresh.Inner(a="s"), z=(fresh.Inner(a="q", b=2),), r=2.0)
    data, together = pack(wanted), threading.Barrier(4)

    def read():
        together.wait()
        if any(unpack(data, fresh.Outer) != wanted for _ in range(4)):
            failed.append(n)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
sys.exit(bool(failed))
'''


def test_threads_that_read_a_kind_for_the_first_time_together_do_not_crash():
    """They did: msgspec hands a half-made description of a dataclass to the second thread."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]

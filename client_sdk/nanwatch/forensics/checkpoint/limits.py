"""What the child may not do while it reads a file that a stranger may have made.

Set after everything is imported and before the file is opened: memory, processor time, and on Linux
by a seccomp filter no network, no programs, no file opened for writing. Standard library only.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

HEADROOM_BYTES = 1 << 30
"""Memory beyond the file itself, which is mapped."""

CPU_S = 60
CPU_S_PER_GIB = 20

_EPERM = 1
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND."""

_X86 = {
    "audit": 0xC000003E, "seccomp": 317, "open": 2, "openat": 257,
    "denied": (
        41, 42, 43, 44, 46, 49, 50, 53, 288, 307,  # socket … sendmmsg
        57, 58, 59, 322,  # fork, vfork, execve, execveat
        62, 101, 200, 310, 311,  # kill, ptrace, tkill, process_vm_*
        76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133, 165, 166,  # names and modes
        258, 259, 260, 263, 264, 265, 266, 268, 316, 437, 452,
        425, 426, 427, 321, 175, 313,  # io_uring, bpf, modules
    ),
}  # fmt: skip
_ARM = {
    "audit": 0xC00000B7, "seccomp": 277, "open": -1, "openat": 56,
    "denied": (
        198, 199, 200, 201, 202, 203, 206, 211, 242, 269,
        221, 281,
        129, 130, 117, 270, 271,
        33, 34, 35, 36, 37, 38, 39, 40, 45, 46, 52, 53, 54, 55, 276, 437, 452,
        425, 426, 427, 280, 105, 273,
    ),
}  # fmt: skip


def limit(file_bytes: int) -> list[str]:
    """Put every limit in place that this system knows; the names of those that hold."""
    held = _limit_resources(file_bytes)
    if sys.platform == "linux" and _filter():
        held += ["network", "programs", "writing"]
    return held


def _limit_resources(file_bytes: int) -> list[str]:
    try:
        import resource
    except ImportError:
        return []  # Windows
    held = []
    processor_s = CPU_S + CPU_S_PER_GIB * file_bytes // (1 << 30)
    for name, kind, value in (
        ("core", resource.RLIMIT_CORE, 0),
        ("processor time", resource.RLIMIT_CPU, _spent_s() + processor_s),
        ("file size", resource.RLIMIT_FSIZE, 0),
        ("memory", getattr(resource, "RLIMIT_AS", -1), _mapped() + file_bytes + HEADROOM_BYTES),
    ):
        try:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            continue
        if name in ("memory", "processor time"):
            held.append(name)
    return held


def _spent_s() -> int:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime) + 1


def _mapped() -> int:
    """Address space in use, in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * 4096
    except (OSError, ValueError):
        return 4 << 30


def _filter() -> bool:
    """Install the seccomp filter on all threads; False where it is not to be had."""
    table = {"x86_64": _X86, "aarch64": _ARM}.get(platform.machine())
    if table is None:
        return False
    program = _program(table)
    count = len(program) // 8
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", count, ctypes.addressof(buffer)))
    library = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, mode_filter, on_all_threads = 38, 1, 1
    if library.prctl(no_new_privileges, 1, 0, 0, 0) != 0:
        return False
    call = ctypes.c_long(table["seccomp"])
    return library.syscall(call, mode_filter, on_all_threads, header) == 0


def _program(table: dict) -> bytes:
    """The filter as instructions of BPF: (code, jump if true, jump if false, operand)."""
    load, equal, any_of, at_least, end = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | _EPERM, 0x80000000
    code = [
        (load, 0, 0, 4),  # architecture
        (equal, 1, 0, table["audit"]),
        (end, 0, 0, kill),
        (load, 0, 0, 0),  # number of the call
        (at_least, 0, 1, 0x40000000),  # the x32 numbers
        (end, 0, 0, kill),
    ]
    for number in table["denied"]:
        code += [(equal, 0, 1, number), (end, 0, 0, refuse)]
    for number, argument in ((table["open"], 1), (table["openat"], 2)):
        if number >= 0:
            code += [
                (equal, 0, 3, number),
                (load, 0, 0, 16 + 8 * argument),
                (any_of, 0, 1, _WRITING),
                (end, 0, 0, refuse),
                (load, 0, 0, 0),
            ]
    code.append((end, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *one) for one in code)

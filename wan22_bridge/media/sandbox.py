"""Confinement of a process that decodes a file of a stranger. Works without root.

A decoder has faults, and a file may be made to use one. Therefore a confined process has limits on memory and processor
time, and can only compute, read and write what it already holds: the kernel refuses it every new file, connection and
process.
"""

import ctypes
import errno
import platform
import resource
import signal
import struct
from dataclasses import dataclass

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
"""Instructions of the kernel's packet filter, see seccomp(2)."""
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 1
"""Results of a filter. The last one is the error EPERM."""
_NUMBER, _ARCHITECTURE = 0, 4
"""Offsets in the description of a system call."""

_CALLS = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0,
            "write": 1,
            "close": 3,
            "lseek": 8,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "readv": 19,
            "writev": 20,
            "sched_yield": 24,
            "mremap": 25,
            "madvise": 28,
            "getpid": 39,
            "exit": 60,
            "gettimeofday": 96,
            "getrusage": 98,
            "sysinfo": 99,
            "sigaltstack": 131,
            "gettid": 186,
            "futex": 202,
            "sched_getaffinity": 204,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "exit_group": 231,
            "getrandom": 318,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "close": 57,
            "lseek": 62,
            "read": 63,
            "write": 64,
            "readv": 65,
            "writev": 66,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "clock_gettime": 113,
            "sched_getaffinity": 123,
            "sched_yield": 124,
            "restart_syscall": 128,
            "sigaltstack": 132,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "getrusage": 165,
            "gettimeofday": 169,
            "getpid": 172,
            "gettid": 178,
            "sysinfo": 179,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "mprotect": 226,
            "madvise": 233,
            "getrandom": 278,
        },
    ),
}
"""The kernel's number of each architecture, and the numbers of the system calls that a decoder needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits on the decoding of one file."""

    cpu_seconds: int
    """Maximum processor time."""
    wall_seconds: int
    """Maximum time for which the service waits."""
    memory_bytes: int = 2 * 2**30
    """Maximum memory. The largest accepted image needs about half of the default."""


def confine(limits: Limits) -> None:
    """Confines this process, which must have one thread, for the rest of its life.

    Modules must be imported and files opened before. The process ends when its parent does. On another architecture
    than x86-64 and ARM64, or without seccomp in the kernel, the resource limits alone hold: see `filters_system_calls`.
    """
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, 0, 0),  # no new descriptors: neither files nor sockets
    ):
        present = resource.getrlimit(kind)[1]  # it may be lower already, and only root may raise it
        if present != resource.RLIM_INFINITY:
            soft, hard = min(soft, present), min(hard, present)
        resource.setrlimit(kind, (soft, hard))
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _filter_system_calls()


def filters_system_calls() -> bool:
    """Returns whether `confine` can filter system calls on this machine: its kernel and its architecture support it."""
    if platform.machine() not in _CALLS:
        return False
    # The kernel rejects the missing filter as a bad address if it supports filters, else as a bad argument.
    failed = _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, 0) == -1
    return failed and ctypes.get_errno() == errno.EFAULT


def _filter_system_calls() -> None:
    if platform.machine() not in _CALLS:
        return
    architecture, calls = _CALLS[platform.machine()]
    program = [
        struct.pack("=HBBI", _LOAD, 0, 0, _ARCHITECTURE),
        struct.pack("=HBBI", _JUMP_IF_EQUAL, 1, 0, architecture),
        struct.pack("=HBBI", _RETURN, 0, 0, _KILL),
        struct.pack("=HBBI", _LOAD, 0, 0, _NUMBER),
        *(
            struct.pack("=HBBI", _JUMP_IF_EQUAL, len(calls) - index, 0, number)
            for index, number in enumerate(calls.values())
        ),
        struct.pack("=HBBI", _RETURN, 0, 0, _REFUSE),
        struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW),
    ]
    instructions = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(instructions)))
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) == 0:
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))


def _prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)][:4]
    result: int = ctypes.CDLL(None, use_errno=True).prctl(option, *values)
    return result

"""A confined process can compute, and can reach nothing that it does not hold already."""

import json
import platform
import subprocess
import sys

import pytest

from wan22_bridge.media.sandbox import filters_system_calls

_ATTEMPTS = {
    "open a file": "open('/etc/hostname')",
    "write a file": "open('/tmp/wan22-sandbox', 'w')",
    "remove a file": "os.unlink('/tmp/wan22-none')",
    "look for a file": "os.stat('/etc')",
    "list a folder": "os.listdir('/')",
    "read the memory of the service": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "connect": "socket.socket(socket.AF_INET).connect(('127.0.0.1', 9))",
    "make a socket": "socket.socketpair()",
    "start a program": "os.execv(sys.executable, ['python'])",
    "start a process": "os.fork()",
    "start a thread": "threading.Thread(target=int).start()",
    "end the service": "os.kill(os.getppid(), 0)",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "change the service's limits": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "take 4 GB": "bytes(4 * 2**30)",
}
_PROGRAM = """
import json, os, resource, socket, sys, threading
from wan22_bridge.media.sandbox import Limits, confine
attempts = {{name: compile(code, name, "eval") for name, code in {attempts!r}.items()}}
held = open("/etc/hosts", "rb")
confine(Limits(cpu_seconds=30, wall_seconds=30, memory_bytes=2**30))
errors = {{"read a held file": str(len(held.read()) > 0)}}
for name, attempt in attempts.items():
    try:
        eval(attempt)
        errors[name] = None
    except (OSError, MemoryError, ValueError, RuntimeError) as exc:
        errors[name] = type(exc).__name__
os.write(1, json.dumps(errors).encode())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls are not filtered here")
def test_a_confined_process_can_open_start_and_reach_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(attempts=_ATTEMPTS)], capture_output=True, check=True, timeout=60
    )
    errors = json.loads(done.stdout)
    assert errors.pop("read a held file") == "True"
    assert set(errors) == set(_ATTEMPTS)
    assert [name for name, error in errors.items() if error is None] == []
    assert errors["take 4 GB"] == "MemoryError"


_INHERITING = """
import resource, signal
from tests.pictures import png
from wan22_bridge.media.inputs import check_image
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_CPU, (50, 50))
assert [check_image(png(), param="image") for _ in range(2)] == [(96, 64)] * 2
"""


def test_a_service_with_lower_limits_and_ignored_signals_decodes_files() -> None:
    """Programs inherit both from the shell or the supervisor that starts the service."""
    subprocess.run([sys.executable, "-c", _INHERITING], check=True, timeout=120)


_IN_A_CONTAINER = """
import ctypes, os, struct
from tests.pictures import png
from wan22_bridge.media.inputs import check_image
from wan22_bridge.media import sandbox
refused = {unshare: 1, mount: 1, clone3: 38}  # EPERM, and ENOSYS as container engines choose it
program = [struct.pack("=HBBI", 0x20, 0, 0, 0)]
for number, error in refused.items():
    program += [struct.pack("=HBBI", 0x15, 0, 1, number), struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | error)]
program.append(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
instructions = ctypes.create_string_buffer(b"".join(program))
header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(instructions)))
assert sandbox._prctl(38, 1) == 0  # no new privileges
assert sandbox._prctl(22, 2, ctypes.addressof(header)) == 0
assert [check_image(png(), param="image") for _ in range(2)] == [(96, 64)] * 2
status = open("/proc/self/status").read()
assert "Seccomp:\\t2" in status and "NoNewPrivs:\\t1" in status
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls are those of x86-64")
def test_the_decoders_work_within_the_filter_of_a_container() -> None:
    """Container engines refuse calls that a decoder does not need, and forbid new privileges."""
    numbers = "unshare, mount, clone3 = 272, 165, 435\n"
    subprocess.run([sys.executable, "-c", numbers + _IN_A_CONTAINER], check=True, timeout=120)
    confined = f"{numbers}{_IN_A_CONTAINER}\n" + _PROGRAM.format(attempts=_ATTEMPTS)
    done = subprocess.run([sys.executable, "-c", confined], capture_output=True, check=True, timeout=120)
    errors = json.loads(done.stdout)
    assert errors.pop("read a held file") == "True"
    assert [name for name, error in errors.items() if error is None] == []


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls are not filtered here")
def test_a_machine_that_cannot_filter_system_calls_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert filters_system_calls()
    program = (
        "from wan22_bridge.media.sandbox import Limits, confine, filters_system_calls\n"
        "assert filters_system_calls()\n"
        "confine(Limits(cpu_seconds=30, wall_seconds=30))\n"
        "assert not filters_system_calls()\n"  # because the filter refuses the question itself
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not filters_system_calls()

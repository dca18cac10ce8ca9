"""A decoder: a process in which files of strangers are decoded, apart from this process and its secrets.

It has no environment variables and no descriptors of this process, and forks a confined child for each file: see
`wan22_bridge.media.decoder_program` and `wan22_bridge.media.sandbox`. Only pixels and numbers come back.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from wan22_bridge.errors import InvalidRequest, NotReady
from wan22_bridge.media.decoder_messages import (
    FAULT,
    FRAME,
    HEADER,
    INVALID,
    MAX_MESSAGE_BYTES,
    NO_MEMORY,
    READY,
    RESULT,
)
from wan22_bridge.media.sandbox import Limits

logger = logging.getLogger(__name__)

_START_SECONDS = 60
_PIPE_BYTES = 2**20
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from wan22_bridge.media.decoder_program import main; main()"
)
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""Environment of a decoder. Libraries must start no threads, because the decoder forks."""


class DecoderKilled(InvalidRequest):
    """The system ended the process that decoded a file, which may succeed another time."""


class Decoder:
    """One process. One thread at a time uses it."""

    def __init__(self) -> None:
        """Starts the process and waits until it has imported its libraries, which takes half a second.

        Raises:
            NotReady: It does not start.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._busy = True
        libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, json.dumps([os.path.abspath(path) for path in sys.path])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT | libraries,
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            self._control.close()
            raise _unavailable("does not start") from exc
        finally:
            theirs.close()
        self._control.settimeout(_START_SECONDS)
        with contextlib.suppress(OSError):
            self._busy = self._control.recv(MAX_MESSAGE_BYTES) != READY
        if self._busy:
            self.end()
            raise _unavailable("does not start")

    @property
    def pid(self) -> int:
        """The process's id, which is also the id of its process group."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether the process lives and waits for a file."""
        return not self._busy and self._process.poll() is None

    def end(self) -> None:
        """Ends the process and its child."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._control.close()

    def decode(
        self, source: int, request: dict[str, Any], limits: Limits, frame_bytes: int
    ) -> Iterator[bytes | dict[str, Any]]:
        """Decodes one file, as `Decoders.decode` documents. If this is left early, the decoder stays unusable.

        The death of the child is an error in the file. The death of the decoder itself is not: the file may come again.
        """
        self._busy = True
        param = request["param"]
        patience = _Patience(limits.wall_seconds)
        answers, theirs = os.pipe()
        try:
            with contextlib.suppress(OSError):
                fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            try:
                message = json.dumps(request | {"limits": asdict(limits)}).encode()
                socket.send_fds(self._control, [message], [source, theirs])
            finally:
                os.close(theirs)
            while (answer := _read_answer(answers, patience, frame_bytes)) is not None and answer[0] == FRAME:
                yield answer[1]
            exit_code = self._read_exit_code(patience)
        except TimeoutError as exc:
            raise _exceeded(param, f"was not decoded within {limits.wall_seconds} seconds") from exc
        except ValueError as exc:
            raise _failed(param, "the decoder gave no answer") from exc
        except OSError as exc:
            raise _unavailable("ended") from exc
        finally:
            os.close(answers)
        self._busy = False
        if answer is None:
            raise _explain(exit_code, limits, param)
        yield _read_result(*answer, limits, param)

    def _read_exit_code(self, patience: "_Patience") -> int:
        patience.wait(self._control.fileno())
        message = self._control.recv(MAX_MESSAGE_BYTES)
        if not message:
            raise ConnectionError("the decoder itself has ended")
        return int(message)


def _unavailable(what: str) -> NotReady:
    logger.error("A decoder %s", what, extra={"action": "decoder_failed"})
    return NotReady(
        f"The process that decodes files {what}.",
        code="decoder_unavailable",
        suggestions=["Try again later. The service's log has the reason."],
    )


class _Patience:
    """Seconds for which this process waits for a decoder altogether. The time between does not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def wait(self, descriptor: int) -> None:
        """Waits until there is something to read.

        Raises:
            TimeoutError: The seconds are over.
        """
        started = time.monotonic()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, self._seconds) * 1000):
            raise TimeoutError
        self._seconds -= time.monotonic() - started


def _read_answer(pipe: int, patience: _Patience, frame_bytes: int) -> tuple[bytes, bytes] | None:
    """Reads an answer's kind and content. Returns None if the child ended before.

    Raises:
        TimeoutError: The patience is over.
        ValueError: It is no answer that a child may send.
    """
    header = _read(pipe, HEADER.size, patience)
    if header is None:
        return None
    kind, size = HEADER.unpack(header)
    if (size != frame_bytes) if kind == FRAME else (size > MAX_MESSAGE_BYTES):
        raise ValueError(f"an answer of kind {kind!r} has {size} bytes")
    content = _read(pipe, size, patience)
    return None if content is None else (kind, content)


def _read(pipe: int, size: int, patience: _Patience) -> bytes | None:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        patience.wait(pipe)
        count = os.readv(pipe, [view])
        if count == 0:
            return None
        view = view[count:]
    return bytes(content)


def _read_result(kind: bytes, content: bytes, limits: Limits, param: str) -> dict[str, Any]:
    """Returns the result, or raises the error that a child has sent in its place."""
    if kind == NO_MEMORY:
        raise _exceeded(param, f"needs more than {limits.memory_bytes / 2**30:g} GB of memory to decode")
    if kind == FAULT:
        logger.error("Unexpected error of a decoder: %r", content, extra={"action": "decoder_failed"})
        raise _failed(param, "the decoder found no way to read it")
    try:
        found = json.loads(content)
        if kind == INVALID:
            raise InvalidRequest(
                str(found["message"]), code=str(found["code"]), param=param, suggestions=list(found["suggestions"])
            )
        if kind == RESULT and isinstance(found, dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise _failed(param, "the decoder gave no answer")


def _explain(exit_code: int, limits: Limits, param: str) -> InvalidRequest:
    """Returns the error for a child that ended without an answer."""
    if exit_code == -signal.SIGXCPU:
        return _exceeded(param, f"needs more than {limits.cpu_seconds} seconds of processor time to decode")
    if exit_code == -signal.SIGKILL:
        return DecoderKilled(
            f"{param} can't be decoded: the system ended the decoder, probably for lack of memory.",
            code="decoding_failed",
            param=param,
            suggestions=["Send the file again later, or save it again with another program."],
        )
    if exit_code < 0:
        return _failed(param, f"the decoder crashed with signal {-exit_code}")
    return _failed(param, "the decoder found no way to read it")


def _exceeded(param: str, what: str) -> InvalidRequest:
    logger.warning("%s %s", param, what, extra={"action": "decoding_limited"})
    return InvalidRequest(
        f"{param} {what}, which is the limit.",
        code="decoding_limit_exceeded",
        param=param,
        suggestions=["Send a smaller or shorter file, or save it again with another program."],
    )


def _failed(param: str, reason: str) -> InvalidRequest:
    logger.warning("%s can't be decoded: %s", param, reason, extra={"action": "decoding_failed"})
    return InvalidRequest(
        f"{param} can't be decoded: {reason}.",
        code="decoding_failed",
        param=param,
        suggestions=["Save the file again with another program."],
    )

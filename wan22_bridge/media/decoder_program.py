"""Program of a decoder: a process that decodes images and videos of strangers, apart from the service.

It imports the libraries once, and then forks a confined child for each file, which takes some milliseconds. A child
never sees a second file. Standard input is the socket to the service.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

import av
from PIL import Image

from wan22_bridge.errors import InvalidRequest
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
from wan22_bridge.media.images import decode_image, fit_image
from wan22_bridge.media.sandbox import Limits, confine
from wan22_bridge.media.videos import decode_frames, decode_last_frame, measure_video

Result = dict[str, Any]
Task = Callable[..., Iterator[Image.Image | Result]]


def main() -> None:
    """Decodes files until the service closes its end of the socket."""
    control = socket.socket(fileno=0)
    for number in (signal.SIGINT, signal.SIGCHLD):  # the service may ignore them, which programs inherit
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if memory is short, the kernel ends this process, not the service
    _import_everything()
    control.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 2)
        if not message:
            return
        alive, held = os.pipe()  # the child alone holds the pipe's other end, until it ends
        child = os.fork()
        if child == 0:
            control.close()
            os.close(alive)
            _run_child(json.loads(message), *descriptors)
        for descriptor in (held, *descriptors):
            os.close(descriptor)
        if not _wait(alive, control):
            os.kill(child, signal.SIGKILL)
            return
        os.close(alive)
        _, status = os.waitpid(child, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _import_everything() -> None:
    """Imports the modules that the libraries would import while they decode, because a child can open no files."""
    Image.init()
    names = [found.name for found in pkgutil.walk_packages(av.__path__, "av.")]
    for name in ("PIL.ImageColor", "PIL.ImagePalette", *names):
        importlib.import_module(name)


def _wait(alive: int, control: socket.socket) -> bool:
    """Waits for the end of a child. Returns whether the service still wants it."""
    poll = select.poll()
    for descriptor in (alive, control.fileno()):
        poll.register(descriptor, select.POLLIN)
    return any(descriptor == alive for descriptor, _ in poll.poll())


def _run_child(request: dict[str, Any], source: int, answer: int) -> None:
    """Decodes one file and exits. An unexpected error ends the child with the status 1."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 2)
        with open(source, "rb") as file, open(answer, "wb", buffering=0) as output:
            _answer(file, output, request)
            status = 0
    finally:
        os._exit(status)


def _answer(file: BinaryIO, output: BinaryIO, request: dict[str, Any]) -> None:
    try:
        confine(Limits(**request.pop("limits")))
        for result in TASKS[request.pop("task")](file, **request):
            if isinstance(result, Image.Image):
                _send(output, FRAME, result.tobytes())
            else:
                _send(output, RESULT, json.dumps(result).encode())
    except InvalidRequest as exc:
        _send(output, INVALID, json.dumps(exc.to_dict()).encode())
    except MemoryError:
        _send(output, NO_MEMORY, b"")
    except Exception as exc:
        _send(output, FAULT, repr(exc)[:1000].encode(errors="replace"))
        raise


def _send(output: BinaryIO, kind: bytes, content: bytes) -> None:
    for part in (HEADER.pack(kind, len(content)), content):
        view = memoryview(part)
        while view:
            view = view[output.write(view) :]


def _check_image(file: BinaryIO, *, param: str) -> Iterator[Result]:
    width, height = decode_image(file, param=param).size
    yield {"width": width, "height": height}


def _check_video(file: BinaryIO, *, param: str) -> Iterator[Result]:
    yield asdict(measure_video(file, param=param))


def _read_image(file: BinaryIO, *, param: str, width: int, height: int) -> Iterator[Image.Image | Result]:
    yield fit_image(decode_image(file, param=param), width, height)
    yield {}


def _read_frames(file: BinaryIO, *, param: str, width: int, height: int, count: int) -> Iterator[Image.Image | Result]:
    frames = decode_frames(file, width, height, param=param)
    for _, frame in zip(range(count), frames, strict=False):
        yield frame
    yield {}


def _read_last_frame(file: BinaryIO, *, param: str, width: int, height: int) -> Iterator[Image.Image | Result]:
    yield decode_last_frame(file, width, height, param=param)
    yield {}


TASKS: dict[str, Task] = {
    "check_image": _check_image,
    "check_video": _check_video,
    "read_image": _read_image,
    "read_frames": _read_frames,
    "read_last_frame": _read_last_frame,
}
"""What a child can do with a file, by the name in the request."""

"""Output folder of one video, which appears only once all its files are complete."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from wan22_bridge.errors import GenerationFailed, storage_failed
from wan22_bridge.files import fsync_directory, fsync_tree
from wan22_bridge.media.inputs import iterate_frames
from wan22_bridge.media.writer import VideoWriter, verify_video, write_png, write_thumbnail
from wan22_bridge.types import Frames, GenerationParams

VIDEO, THUMBNAIL, LAST_FRAME = "video.mp4", "thumbnail.webp", "last_frame.png"
OUTPUT_FILES = (VIDEO, THUMBNAIL, LAST_FRAME)
"""Names of the files of a complete output."""


class VideoOutput:
    """Writes a video, its thumbnail and its last frame to a temporary folder, which `finish` renames."""

    def __init__(
        self, folder: Path, params: GenerationParams, *, skipped_frames: int = 0, continued: Path | None = None
    ) -> None:
        """Prepares the output without writing anything.

        Args:
            folder: Final folder of the files.
            params: Parameters of the video, which are stored in the mp4.
            skipped_frames: Number of the first frames to leave out.
            continued: Video whose frames come first. The first generated frame, which repeats its last one, is left
                out.
        """
        self.folder = folder
        self._params = params
        self._skipped_frames = 1 if continued else skipped_frames
        self._continued = continued
        self._part = folder.with_name(f".{folder.name}.part")

    def write(self, parts: Iterable[Frames]) -> Iterator[None]:
        """Writes parts of frames [n, height, width, 3], and yields after each part.

        Raises:
            GenerationFailed: Each frame has a single color.
            StorageFailed: The files can't be written, for example because the disk is full.
        """
        params, constant = self._params, True
        last: Frames | None = None
        shown, to_skip = False, self._skipped_frames
        self.discard()
        with _writing_files():
            self._part.mkdir(parents=True)
            with VideoWriter(
                self._part / VIDEO,
                width=params.width,
                height=params.height,
                fps=params.fps,
                parameters=params.to_dict(),
            ) as video:
                for frame in self._read_continued():
                    video.add(frame)
                    if not shown:
                        write_thumbnail(self._part / THUMBNAIL, frame[0])
                        shown = True
                for frames in parts:
                    if len(frames):
                        constant = constant and _is_constant(frames)
                        last = frames[-1]
                        kept, to_skip = frames[to_skip:], max(0, to_skip - len(frames))
                        if len(kept) and not shown:
                            write_thumbnail(self._part / THUMBNAIL, kept[0])
                            shown = True
                        video.add(kept)
                    yield
            if last is not None:
                write_png(self._part / LAST_FRAME, last)
        if constant:
            raise GenerationFailed(
                f"{params.model} generated a video in which each frame has a single color.",
                code="constant_frames",
                suggestions=["Set generator.quantization to none.", "Use another seed or more steps."],
            )

    def _read_continued(self) -> Iterator[Frames]:
        """Yields the frames [1, height, width, 3] of the continued video one by one, at the new video's size."""
        if self._continued is None:
            return
        params = self._params
        for image in iterate_frames(self._continued, params.joined_frames, params.width, params.height):
            yield np.asarray(image)[None]

    def finish(self) -> None:
        """Verifies the video, and renames the temporary folder to its final name.

        Raises:
            StorageFailed: The written video differs from the parameters, or the folder can't be renamed.
        """
        params = self._params
        verify_video(
            self._part / VIDEO,
            width=params.width,
            height=params.height,
            fps=params.fps,
            num_frames=params.num_frames - (0 if self._continued else self._skipped_frames),
            parameters=params.to_dict(),
        )
        with _writing_files():
            fsync_tree(self._part)
            self._part.rename(self.folder)
            fsync_directory(self.folder.parent)

    def discard(self) -> None:
        """Removes the temporary folder."""
        shutil.rmtree(self._part, ignore_errors=True)


@contextmanager
def place_output(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder, which appears as `folder` at the end of the context, unless there was an error.

    Raises:
        StorageFailed: A file can't be written, for example because the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _writing_files():
            temporary.mkdir(parents=True)
            yield temporary
            fsync_tree(temporary)
            temporary.rename(folder)
            fsync_directory(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_constant(frames: Frames) -> bool:
    """Returns whether each of the frames [n, height, width, 3] has a single color."""
    return bool(np.all(frames == frames[:, :1, :1]))


@contextmanager
def _writing_files() -> Iterator[None]:
    """Raises `StorageFailed` in place of an error of the operating system."""
    try:
        yield
    except OSError as exc:
        raise storage_failed(
            f"The video's files could not be written: {exc.strerror or 'unknown reason'}.",
            exc,
            suggestions=["Free space on the disk that holds the service's data."],
        ) from exc

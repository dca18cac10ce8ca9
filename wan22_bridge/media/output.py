"""The files of one video: written under a temporary name, read back, then shown all at once."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from wan22_bridge.errors import GenerationFailed, StorageFailed
from wan22_bridge.files import fsync_directory, fsync_tree
from wan22_bridge.media.writer import VideoWriter, verify_video, write_png, write_thumbnail
from wan22_bridge.types import Frames, GenerationParams

VIDEO, THUMBNAIL, LAST_FRAME = "video.mp4", "thumbnail.webp", "last_frame.png"


class VideoOutput:
    """A folder that appears whole or not at all."""

    def __init__(self, folder: Path, params: GenerationParams) -> None:
        """Writes nothing yet."""
        self.folder = folder
        self._params = params
        self._part = folder.with_name(f".{folder.name}.part")

    def write(self, parts: Iterable[Frames]) -> Iterator[None]:
        """Writes the frames [n, height, width, 3] as they come, yielding after each part.

        Raises:
            GenerationFailed: every frame is of a single colour.
            StorageFailed: the disk is full or broken.
        """
        params, constant = self._params, True
        last: Frames | None = None
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
                for frames in parts:
                    if len(frames):
                        constant = constant and _is_constant(frames)
                        video.add(frames)
                        if last is None:
                            write_thumbnail(self._part / THUMBNAIL, frames[0])
                        last = frames[-1]
                    yield
            if last is not None:
                write_png(self._part / LAST_FRAME, last)
        if constant:
            raise GenerationFailed(
                f"Every frame that {params.model} made is of a single colour.",
                code="constant_frames",
                suggestions=["Use no quantisation, or another dtype.", "Use another seed or more steps."],
            )

    def finish(self) -> None:
        """Reads the video back, then shows all files under their final names.

        Raises:
            StorageFailed: what was written is not what was meant.
        """
        params = self._params
        verify_video(
            self._part / VIDEO,
            width=params.width,
            height=params.height,
            fps=params.fps,
            num_frames=params.num_frames,
            parameters=params.to_dict(),
        )
        with _writing_files():
            fsync_tree(self._part)
            self._part.rename(self.folder)
            fsync_directory(self.folder.parent)

    def discard(self) -> None:
        """Removes what is not finished."""
        shutil.rmtree(self._part, ignore_errors=True)


def _is_constant(frames: Frames) -> bool:
    """Whether each frame [n, height, width, 3] shows one colour alone."""
    return bool(np.all(frames == frames[:, :1, :1]))


@contextmanager
def _writing_files() -> Iterator[None]:
    """Tells of a full or broken disk by what it is."""
    try:
        yield
    except OSError as exc:
        raise StorageFailed(
            f"The video's files could not be written: {exc.strerror or 'unknown reason'}.",
            suggestions=["Free space on the disk that holds the service's data."],
        ) from exc

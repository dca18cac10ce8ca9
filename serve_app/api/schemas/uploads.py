"""Body of an upload's response."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from serve_app.api.schemas.links import upload_id
from wan22_bridge.requests import InputImage, InputVideo


class Upload(BaseModel):
    """An image or a video that was stored for later requests."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Id by which later requests name the upload."""
    kind: Literal["image", "video"]
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    size_bytes: int
    num_frames: int | None
    """Number of frames of a video; null for an image."""
    fps: float | None
    """Frames per second of a video; null for an image, and if the file does not state them."""

    @classmethod
    def of(cls, found: InputImage | InputVideo, *, size_bytes: int) -> "Upload":
        """Describes a stored image or video."""
        video = found if isinstance(found, InputVideo) else None
        return cls(
            id=upload_id(found.key),
            kind="video" if video else "image",
            width=found.width,
            height=found.height,
            size_bytes=size_bytes,
            num_frames=video and video.num_frames,
            fps=(round(video.fps, 3) or None) if video else None,
        )

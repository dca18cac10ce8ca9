"""Segments of a long video: their checks, and the frames and seeds that a request leaves open."""

import secrets

from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.requests.prompts import require_prompt
from wan22_bridge.requests.request import GenerationRequest, InputVideo
from wan22_bridge.sizing import snap_frames
from wan22_bridge.types import Segment

MAX_RESULT_FRAMES = 1800
"""Maximum frames of a video that is joined from parts: a minute at 30 fps."""


def check_joining(request: GenerationRequest, spec: ModelSpec) -> None:
    """Checks that the inputs and the model allow segments, or a joined continuation.

    Raises:
        InvalidRequest: they don't.
    """
    if request.joined and (request.segments or not isinstance(request.image, InputVideo)):
        raise InvalidRequest(
            "joined needs a video to continue, and no segments.",
            code="video_required",
            param="joined",
            suggestions=["Send an mp4 as image, or leave joined out."],
        )
    if not request.segments:
        return
    for name in ("video", "end_image"):
        if getattr(request, name) is not None:
            raise InvalidRequest(
                f"{name} and segments can't be combined.",
                code="segments_not_supported",
                param=name,
                suggestions=[f"Send either segments or {name}."],
            )
    if spec.image is ImageInput.NONE:
        raise InvalidRequest(
            f"{spec.id} ({spec.type}) can't continue from a frame, which segments need.",
            code="segments_not_supported",
            param="segments",
            suggestions=["Use TI2V-5B, or I2V-A14B with an image."],
        )


def resolve_segments(
    request: GenerationRequest, spec: ModelSpec, *, num_frames: int, fps: float, seed: int
) -> tuple[Segment, ...]:
    """Decides the frames and the seeds of all segments.

    Args:
        request: the request.
        spec: the request's model.
        num_frames: frames of a segment that sets none.
        fps: frames per second.
        seed: seed of the first segment that sets none; each later one counts up from it.

    Raises:
        InvalidRequest: a segment's prompt or number of frames is not valid.
    """
    resolved = []
    for index, segment in enumerate(request.segments):
        param = f"segments[{index}]"
        try:
            prompt = require_prompt(segment.prompt)
        except InvalidRequest as exc:
            exc.param = f"{param}.prompt"
            raise
        frames = segment.num_frames
        frames = num_frames if frames is None else snap_frames(frames, spec, fps=fps, param=f"{param}.num_frames")
        if index and frames == 1:
            raise InvalidRequest(
                f"{param} has 1 frame, which is the last frame of the segment before it.",
                code="invalid_num_frames",
                param=f"{param}.num_frames",
                suggestions=["Use at least 5 frames."],
            )
        own = segment.seed if segment.seed is not None and segment.seed >= 0 else None
        if own is None:
            own = seed + index if request.seed is not None and request.seed >= 0 else secrets.randbelow(2**31)
        resolved.append(Segment(prompt=prompt, num_frames=frames, seed=own))
    return tuple(resolved)


def check_length(num_frames: int, param: str) -> None:
    """Checks the number of frames of a joined video.

    Raises:
        InvalidRequest: the video would be too long.
    """
    if num_frames > MAX_RESULT_FRAMES:
        raise InvalidRequest(
            f"The joined video would have {num_frames} frames: expected at most {MAX_RESULT_FRAMES}.",
            code="too_many_frames",
            param=param,
            suggestions=["Ask for fewer or shorter parts."],
        )

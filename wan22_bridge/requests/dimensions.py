"""Size, frame rate and length of the video that a request asks for."""

import math

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.requests.request import GenerationRequest, InputVideo
from wan22_bridge.requests.size_classes import find_size, parse_ratio, parse_size_class, same_shape
from wan22_bridge.sizing import parse_size, size_for_aspect, snap_frames, snap_size

_MAX_FPS = 120


def choose_size(request: GenerationRequest, spec: ModelSpec) -> tuple[int, int]:
    """Returns width and height in pixels.

    The size is the requested one, rounded down to the model's multiple. A class such as `720p`, and an aspect ratio,
    name a size of the model. Without any of these, an input gives the shape, and the model's own size the area. A video
    continuation keeps its input's size where that is no larger, so that the two videos can be joined.

    Raises:
        InvalidRequest: the requested size can't be read or contradicts the aspect ratio, or the model does not support
            it.
    """
    shown = request.video or request.image
    ratio = None if request.aspect_ratio is None else parse_ratio(request.aspect_ratio)
    lines = None if request.resolution is None else parse_size_class(request.resolution)
    if request.resolution is not None and lines is None:
        size = parse_size(request.resolution)
        if ratio is not None and not same_shape(size, ratio):
            raise InvalidRequest(
                f"aspect_ratio {request.aspect_ratio!r:.40} contradicts the size {size[0]}x{size[1]}.",
                code="contradictory_fields",
                param="aspect_ratio",
                suggestions=["Send either a size or aspect_ratio."],
            )
        return snap_size(size, spec)
    if lines is not None or ratio is not None:
        of_input = shown.width / shown.height if shown else None
        return snap_size(find_size(spec, lines=lines, ratio=ratio or of_input), spec)
    area = spec.size[0] * spec.size[1]
    if isinstance(request.image, InputVideo):
        sides = request.image.width, request.image.height
        width, height = (side // spec.size_multiple * spec.size_multiple for side in sides)
        if 0 < width * height <= area:
            return width, height
    if shown:
        return size_for_aspect(shown.width, shown.height, area, spec.size_multiple)
    return spec.size


def choose_fps(request: GenerationRequest, spec: ModelSpec) -> float:
    """Returns the requested frame rate, else that of an input video, else the model's own."""
    if request.fps is not None:
        return request.fps
    video = request.image if isinstance(request.image, InputVideo) else request.video
    own = round(video.fps) if video is not None else 0
    return own if 1 <= own <= _MAX_FPS else spec.fps


def choose_frames(request: GenerationRequest, spec: ModelSpec, fps: float) -> int:
    """Returns the requested number of frames, else in video-to-video the input's, else the model's own.

    Raises:
        InvalidRequest: the model can't generate so many frames, or the input of video-to-video has fewer.
    """
    video, param = request.video, "num_frames"
    if request.num_frames is not None:
        num_frames = snap_frames(request.num_frames, spec, fps=fps)
    elif request.seconds is not None:
        param = "seconds"
        num_frames = snap_frames(round(request.seconds * fps) + 1, spec, fps=fps, param=param)
    else:
        return snap_frames(min(video.num_frames, spec.max_frames), spec, fps=fps) if video else spec.num_frames
    if video is not None and num_frames > video.num_frames:
        most = snap_frames(video.num_frames, spec, fps=fps)
        raise InvalidRequest(
            f"{param} asks for {num_frames} frames, but the video has only {video.num_frames}.",
            code="video_too_short",
            param=param,
            suggestions=[f"Ask for at most {most} frames: {math.floor(10 * (most - 1) / fps) / 10:g} seconds."],
        )
    return num_frames

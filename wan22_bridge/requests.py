"""What a client asked for → GenerationParams: defaults filled in, sizes snapped, limits held. Pure."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.sizing import parse_size, size_for_aspect, snap_frames, snap_size
from wan22_bridge.types import GenerationParams, LoraUse, ModelType, SchedulerName, StepCache

MAX_PROMPT_CHARACTERS = 2000
AUTO = "auto"
"""As the model: image-to-video where there is an image, else text-to-video."""

DEFAULT_STRENGTH = 0.5
"""Keeps the video's composition and coarse movement. At the A14B's flow shift of 12 it begins with as much noise, 92 %,
as diffusers' own default of 0.8 does at a flow shift of 3."""
_MAX_FPS = 120

_SHORT_TYPES = {"t2v": ModelType.T2V, "i2v": ModelType.I2V, "ti2v": ModelType.TI2V}


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """An image that a request brings."""

    key: str
    """Where the storage keeps it."""
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InputVideo:
    """A video that a request brings."""

    key: str
    """Where the storage keeps it."""
    width: int
    height: int
    num_frames: int
    fps: float
    """0 where the file does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """A request as it came: None is "the model's own default"."""

    prompt: str
    model: str = AUTO
    resolution: str | None = None
    seconds: float | None = None
    num_frames: int | None = None
    fps: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    flow_shift: float | None = None
    scheduler: SchedulerName = SchedulerName.UNIPC
    step_cache: StepCache = StepCache.NONE
    loras: tuple[LoraUse, ...] = ()
    preset: str | None = None
    """The name of one of the model's presets: what is left open is as there."""
    negative_prompt: str | None = None
    seed: int | None = None
    """None or -1: one is drawn."""
    image: InputImage | InputVideo | None = None
    """The first frame; of a video, its last one: it is continued."""
    end_image: InputImage | None = None
    video: InputVideo | None = None
    """To make anew."""
    strength: float | None = None
    """How much of the video, above 0 and at most 1."""


def choose_model(
    served: Sequence[ModelSpec], name: str, *, has_image: bool = False, has_video: bool = False
) -> ModelSpec:
    """Finds the served model that a request means: by id, by type in any case, or `auto`.

    A type stands for the first served model of that type.

    Raises:
        InvalidRequest: nothing served goes by that name.
    """
    wanted = name.strip().lower()
    if wanted == AUTO:
        order = [ModelType.I2V, ModelType.TI2V] if has_image else [ModelType.T2V, ModelType.TI2V]
        for model_type in order:
            for spec in served:
                if spec.type == model_type:
                    return spec
        code, param, what = "image_required", "image", "without an image"
        if has_image:
            code, what = "image_not_supported", "from an image"
        if has_video:
            code, param, what = "video_not_supported", "video", "anew from a video"
        raise InvalidRequest(
            f"No model that is served here makes a video {what}.",
            code=code,
            param=param,
            suggestions=[f"Served are: {', '.join(spec.id for spec in served)}."],
        )
    short = _SHORT_TYPES.get(wanted)
    for spec in served:
        if spec.id.lower() == wanted:
            return spec
    for spec in served:
        if spec.type.lower() == wanted or spec.type == short:
            return spec
    names = ", ".join([*(spec.id for spec in served), *dict.fromkeys(spec.type.value for spec in served)])
    raise InvalidRequest(
        f"There is no model {name[:80]!r} here.",
        code="unknown_model",
        param="model_type",
        suggestions=[f"Use one of: {names}, auto."],
    )


def resolve_params(request: GenerationRequest, served: Sequence[ModelSpec]) -> GenerationParams:
    """Makes every choice that the request left open, and refuses what can't work.

    Raises:
        InvalidRequest: with the field at fault, and what would do instead.
    """
    prompt = _require_prompt(request.prompt)
    _check_one_beginning(request)
    spec = choose_model(served, request.model, has_image=request.image is not None, has_video=request.video is not None)
    request = _fill_from_preset(request, spec)
    _check_inputs(request, spec)
    width, height = _choose_size(request, spec)
    fps = _choose_fps(request, spec)
    _check_guidance(request, spec)
    steps = request.steps if request.steps is not None else spec.steps
    seed = request.seed
    return GenerationParams(
        model=spec.id,
        model_type=spec.type,
        prompt=prompt,
        negative_prompt=(
            spec.negative_prompt
            if request.negative_prompt is None
            else _check_prompt(request.negative_prompt, "negative_prompt")
        ),
        width=width,
        height=height,
        num_frames=_choose_frames(request, spec, fps),
        fps=fps,
        steps=steps,
        guidance_scale=request.guidance_scale if request.guidance_scale is not None else spec.guidance_scale,
        guidance_scale_2=_choose_guidance_2(request, spec),
        flow_shift=request.flow_shift if request.flow_shift is not None else spec.flow_shift,
        scheduler=request.scheduler,
        step_cache=request.step_cache,
        loras=request.loras,
        seed=seed if seed is not None and seed >= 0 else secrets.randbelow(2**31),
        image=request.image.key if request.image else None,
        end_image=request.end_image.key if request.end_image else None,
        video=request.video.key if request.video else None,
        strength=_choose_strength(request, steps),
    )


def change_prompt(params: GenerationParams, prompt: str, served: Sequence[ModelSpec]) -> GenerationParams:
    """The same video with another prompt.

    Raises:
        InvalidRequest: the prompt can't be used, or the model is not served any more.
    """
    prompt = _require_prompt(prompt)
    choose_model(served, params.model)
    return replace(params, prompt=prompt)


def _fill_from_preset(request: GenerationRequest, spec: ModelSpec) -> GenerationRequest:
    """The request, with what it left open as in its preset."""
    if request.preset is None:
        return request
    if request.preset not in spec.presets:
        raise InvalidRequest(
            f"{spec.id} has no preset {request.preset[:80]!r}.",
            code="unknown_preset",
            param="preset",
            suggestions=[f"It has: {', '.join(spec.presets)}."],
        )
    preset = spec.presets[request.preset]
    names = ("steps", "guidance_scale", "guidance_scale_2", "flow_shift", "negative_prompt")
    filled = {name: getattr(preset, name) for name in names if getattr(request, name) is None}
    named = {use.name for use in request.loras}
    loras = (*request.loras, *(LoraUse(name=name) for name in preset.loras if name not in named))
    return replace(request, **filled, loras=loras)


def _require_prompt(text: str) -> str:
    prompt = _check_prompt(text, "prompt")
    if not prompt:
        raise InvalidRequest("prompt is empty.", code="prompt_empty", param="prompt", suggestions=["Say what to show."])
    return prompt


def _check_prompt(text: str, param: str) -> str:
    text = text.strip()
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"{param} has {len(text)} characters: at most {MAX_PROMPT_CHARACTERS} are taken.",
            code="prompt_too_long",
            param=param,
            suggestions=[f"Shorten it to {MAX_PROMPT_CHARACTERS} characters."],
        )
    if "\x00" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise InvalidRequest(f"{param} holds characters that are no text.", code="invalid_prompt", param=param)
    return text


def _check_one_beginning(request: GenerationRequest) -> None:
    """A video is made anew, or begins with an image; not both."""
    for name in ("image", "end_image"):
        if request.video is not None and getattr(request, name) is not None:
            raise InvalidRequest(
                f"A video that is made anew takes no {name}: each of its frames comes from the video.",
                code="video_with_image",
                param=name,
                suggestions=[f"Send either video or {name}.", "To go on from a video's last frame, send it as image."],
            )
    if request.video is None and request.strength is not None:
        raise InvalidRequest(
            "strength says how much of a video is made anew, and no video was sent.",
            code="video_required",
            param="strength",
            suggestions=["Send a video, or leave strength out."],
        )


def _check_inputs(request: GenerationRequest, spec: ModelSpec) -> None:
    if request.video is not None and not spec.video:
        raise InvalidRequest(
            f"{spec.id} ({spec.type}) can't make a video anew.",
            code="video_not_supported",
            param="video",
            suggestions=["Use T2V-A14B or TI2V-5B.", "To go on from the video's last frame, send it as image."],
        )
    if request.image is None and spec.image is ImageInput.REQUIRED:
        raise InvalidRequest(
            f"{spec.id} ({spec.type}) makes a video from an image, and none was sent.",
            code="image_required",
            param="image",
            suggestions=["Send an image, or use a text-to-video model."],
        )
    if request.image is not None and spec.image is ImageInput.NONE:
        raise InvalidRequest(
            f"{spec.id} ({spec.type}) takes no image.",
            code="image_not_supported",
            param="image",
            suggestions=["Leave the image out, or use I2V-A14B or TI2V-5B."],
        )
    if request.end_image is not None and not spec.end_image:
        raise InvalidRequest(
            f"{spec.id} ({spec.type}) takes no last frame.",
            code="end_image_not_supported",
            param="end_image",
            suggestions=["Leave end_image out, or use I2V-A14B."],
        )


def _choose_size(request: GenerationRequest, spec: ModelSpec) -> tuple[int, int]:
    if request.resolution is not None:
        return snap_size(parse_size(request.resolution), spec)
    area = spec.size[0] * spec.size[1]
    if isinstance(request.image, InputVideo):  # what continues a video can be joined to it, where that is not too large
        sides = request.image.width, request.image.height
        width, height = (side // spec.size_multiple * spec.size_multiple for side in sides)
        if 0 < width * height <= area:
            return width, height
    if shown := request.video or request.image:
        return size_for_aspect(shown.width, shown.height, area, spec.size_multiple)
    return spec.size


def _choose_fps(request: GenerationRequest, spec: ModelSpec) -> int:
    """As asked; else a video's own, so that it neither hurries nor drags; else the model's."""
    if request.fps is not None:
        return request.fps
    video = request.image if isinstance(request.image, InputVideo) else request.video
    own = round(video.fps) if video is not None else 0
    return own if 1 <= own <= _MAX_FPS else spec.fps


def _choose_frames(request: GenerationRequest, spec: ModelSpec, fps: int) -> int:
    """As asked; else a video's own, as far as the model goes; else the model's."""
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
            f"{param} asks for {num_frames} frames, and the video has {video.num_frames}.",
            code="video_too_short",
            param=param,
            suggestions=[f"Ask for at most {most} frames: {math.floor(10 * (most - 1) / fps) / 10:g} seconds."],
        )
    return num_frames


def _choose_strength(request: GenerationRequest, steps: int) -> float:
    """Of a video; 1 without one."""
    if request.video is None:
        return 1.0
    strength = DEFAULT_STRENGTH if request.strength is None else request.strength
    if int(steps * strength) < 1:
        raise InvalidRequest(
            f"strength {strength:g} leaves none of the {steps} steps to run.",
            code="strength_too_low",
            param="strength",
            suggestions=[f"Use a strength of at least {math.ceil(100 / steps) / 100:g}, or more steps."],
        )
    return strength


def _check_guidance(request: GenerationRequest, spec: ModelSpec) -> None:
    if request.guidance_scale_2 is not None and spec.guidance_scale_2 is None:
        raise InvalidRequest(
            f"{spec.id} has one expert and takes no guidance_scale_2.",
            code="guidance_scale_2_not_supported",
            param="guidance_scale_2",
            suggestions=["Send guidance_scale alone."],
        )


def _choose_guidance_2(request: GenerationRequest, spec: ModelSpec) -> float | None:
    """The low-noise expert's scale: as sent; else as the first one if that was sent; else the model's own."""
    if spec.guidance_scale_2 is None or request.guidance_scale_2 is not None:
        return request.guidance_scale_2
    return request.guidance_scale if request.guidance_scale is not None else spec.guidance_scale_2

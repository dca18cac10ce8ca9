"""What a client asked for → GenerationParams: defaults filled in, sizes snapped, limits held. Pure."""

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

_SHORT_TYPES = {"t2v": ModelType.T2V, "i2v": ModelType.I2V, "ti2v": ModelType.TI2V}


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """An image that a request brings."""

    key: str
    """Where the storage keeps it."""
    width: int
    height: int


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
    image: InputImage | None = None
    end_image: InputImage | None = None


def choose_model(served: Sequence[ModelSpec], name: str, *, has_image: bool) -> ModelSpec:
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
        raise InvalidRequest(
            f"No model that is served here makes a video {'from an image' if has_image else 'without an image'}.",
            code="image_not_supported" if has_image else "image_required",
            param="image",
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
    prompt = _check_prompt(request.prompt, "prompt")
    if not prompt:
        raise InvalidRequest("prompt is empty.", code="prompt_empty", param="prompt", suggestions=["Say what to show."])
    spec = choose_model(served, request.model, has_image=request.image is not None)
    request = _fill_from_preset(request, spec)
    _check_images(request, spec)
    width, height = _choose_size(request, spec)
    fps = request.fps if request.fps is not None else spec.fps
    _check_guidance(request, spec)
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
        steps=request.steps if request.steps is not None else spec.steps,
        guidance_scale=request.guidance_scale if request.guidance_scale is not None else spec.guidance_scale,
        guidance_scale_2=_choose_guidance_2(request, spec),
        flow_shift=request.flow_shift if request.flow_shift is not None else spec.flow_shift,
        scheduler=request.scheduler,
        step_cache=request.step_cache,
        loras=request.loras,
        seed=seed if seed is not None and seed >= 0 else secrets.randbelow(2**31),
        image=request.image.key if request.image else None,
        end_image=request.end_image.key if request.end_image else None,
    )


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


def _check_images(request: GenerationRequest, spec: ModelSpec) -> None:
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
    if request.image is not None:
        area = spec.size[0] * spec.size[1]
        return size_for_aspect(request.image.width, request.image.height, area, spec.size_multiple)
    return spec.size


def _choose_frames(request: GenerationRequest, spec: ModelSpec, fps: int) -> int:
    if request.num_frames is not None:
        return snap_frames(request.num_frames, spec, fps=fps)
    if request.seconds is not None:
        return snap_frames(round(request.seconds * fps) + 1, spec, fps=fps, param="seconds")
    return spec.num_frames


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

"""Conversion of a request into complete parameters. Pure: it reads no file and runs no model."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.options import DEFAULT_STRENGTH, GenerationOptions
from wan22_bridge.requests.dimensions import choose_fps, choose_frames, choose_size
from wan22_bridge.requests.inputs import check_combination, check_support
from wan22_bridge.requests.model_choice import choose_model
from wan22_bridge.requests.prompts import check_text, require_prompt
from wan22_bridge.requests.request import GenerationRequest, InputVideo
from wan22_bridge.requests.segments import check_joining, check_length, resolve_segments
from wan22_bridge.types import GenerationParams, LoraUse

_OPTIONS = [item.name for item in fields(GenerationOptions)]


def resolve_params(request: GenerationRequest, served: Sequence[ModelSpec]) -> GenerationParams:
    """Validates a request and decides everything that it leaves open.

    An open option gets its value from the request's preset, else from the model. Options that depend on the inputs or
    on each other have rules of their own below.

    Raises:
        InvalidRequest: the request can't be carried out; the error names the field, and a value that works.
    """
    prompt = require_prompt(request.prompt)
    check_combination(request)
    spec = choose_model(
        served,
        request.model,
        has_image=request.image is not None,
        has_video=request.video is not None,
        has_segments=bool(request.segments),
    )
    request = _fill_from_preset(_check_texts(request), spec)
    check_joining(request, spec)
    check_support(request, spec)
    width, height = choose_size(request, spec)
    fps = choose_fps(request, spec)
    steps = spec.steps if request.steps is None else request.steps
    num_frames = choose_frames(request, spec, fps)
    seed = secrets.randbelow(2**31) if request.seed is None or request.seed < 0 else request.seed
    segments = resolve_segments(request, spec, num_frames=num_frames, fps=fps, seed=seed)
    joined_frames = 0
    if segments:
        num_frames = sum(segment.num_frames for segment in segments) - len(segments) + 1
        check_length(num_frames, "segments")
        prompt, seed = segments[0].prompt, segments[0].seed
    elif request.joined and isinstance(request.image, InputVideo):
        joined_frames = request.image.num_frames
        num_frames += joined_frames - 1
        check_length(num_frames, "joined")
    options = _fill_from_model(request, spec) | {
        "num_frames": num_frames,
        "fps": fps,
        "guidance_scale_2": _choose_guidance_2(request, spec),
        "seed": seed,
        "strength": _choose_strength(request, steps),
    }
    return GenerationParams(
        model=spec.id,
        model_type=spec.type,
        prompt=prompt,
        width=width,
        height=height,
        loras=request.loras,
        image=request.image.key if request.image else None,
        end_image=request.end_image.key if request.end_image else None,
        video=request.video.key if request.video else None,
        segments=segments,
        joined_frames=joined_frames,
        **options,
    )


def change_prompt(params: GenerationParams, prompt: str, served: Sequence[ModelSpec]) -> GenerationParams:
    """Returns the parameters with another prompt, and the rest unchanged.

    Raises:
        InvalidRequest: the prompt is not valid, or the model is no longer served.
    """
    prompt = require_prompt(prompt)
    choose_model(served, params.model)
    if params.segments and prompt != params.prompt:
        raise InvalidRequest(
            "The video has a prompt for each of its segments: one new prompt can't replace them.",
            code="segments_not_supported",
            param="prompt",
            suggestions=["Submit a new job with changed segments."],
        )
    return replace(params, prompt=prompt)


def _check_texts(request: GenerationRequest) -> GenerationRequest:
    """Checks options that are free text; the members of an enum are not, although their type derives from str."""
    values = {name: getattr(request, name) for name in _OPTIONS}
    checked: dict[str, Any] = {name: check_text(text, name) for name, text in values.items() if type(text) is str}
    return replace(request, **checked)


def _fill_from_preset(request: GenerationRequest, spec: ModelSpec) -> GenerationRequest:
    """Returns the request with its preset's values for open options, and the preset's LoRAs added."""
    if request.preset is None:
        return request
    if request.preset not in spec.presets:
        raise InvalidRequest(
            f"{spec.id} has no preset {request.preset[:80]!r}.",
            code="unknown_preset",
            param="preset",
            suggestions=[f"Use one of: {', '.join(spec.presets)}."],
        )
    preset = spec.presets[request.preset]
    named = {use.name for use in request.loras}
    loras = (*request.loras, *(LoraUse(name=name) for name in preset.loras if name not in named))
    return replace(request, **_open_values(request, preset), loras=loras)


def _fill_from_model(request: GenerationRequest, spec: ModelSpec) -> dict[str, Any]:
    """Returns all options, with the model's own values for open ones that it has a default for."""
    return {name: getattr(request, name) for name in _OPTIONS} | _open_values(request, spec)


def _open_values(request: GenerationRequest, source: object) -> dict[str, Any]:
    """Returns the values that `source` has for options that the request leaves open."""
    return {name: getattr(source, name, None) for name in _OPTIONS if getattr(request, name) is None}


def _choose_strength(request: GenerationRequest, steps: int) -> float:
    """Returns the strength of video-to-video; 1 without an input video."""
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


def _choose_guidance_2(request: GenerationRequest, spec: ModelSpec) -> float | None:
    """Returns the low-noise expert's guidance scale: its own if set, else that of the high-noise expert if set."""
    if spec.guidance_scale_2 is None or request.guidance_scale_2 is not None:
        return request.guidance_scale_2
    return request.guidance_scale if request.guidance_scale is not None else spec.guidance_scale_2

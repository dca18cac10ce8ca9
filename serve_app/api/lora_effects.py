"""Descriptions of what a LoRA would change in a job, and of the memory that it would need."""

from collections.abc import Sequence

from deployments.jobs.lora_library import LoraDescription
from deployments.system_stats import Gpu
from serve_app.api.schemas.loras import LoraMemoryImpact, LoraPreview, LoraPreviewRequest
from serve_app.api.services import Services
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_fit import changed_experts, find_misfit
from wan22_bridge.models.transformer_shape import find_shape
from wan22_bridge.requests import AUTO, choose_model

_LOW_SHARE, _MEDIUM_SHARE = 0.05, 0.15
"""Limits of a low and a medium memory impact, as shares of an expert's weights."""


def describe_effect(serving: Services, found: LoraDescription, use: LoraPreviewRequest) -> LoraPreview:
    """Describes the use of a LoRA in a job, without a model.

    Raises:
        InvalidRequest: no served model has the name in the request.
    """
    files, summary = found.files, found.summary
    spec = _choose(serving, found, use.model_type)
    reason = find_misfit(files, spec)
    wanted = {
        Expert.HIGH_NOISE: use.strength,
        Expert.LOW_NOISE: use.strength if use.strength_2 is None else use.strength_2,
    }
    strengths = {expert.label: wanted[expert] for expert in changed_experts(files, spec) if wanted[expert]}
    missing = [word for word in files.trigger_words if word.lower() not in use.prompt.lower()]
    layers = summary.layers if summary else 0
    return LoraPreview(
        lora_name=files.name,
        model=spec.id,
        compatible=reason is None,
        reason=reason,
        strengths=strengths if reason is None else {},
        rank=summary and summary.rank,
        changed_layers=layers,
        trigger_words=list(files.trigger_words),
        base_prompt=use.prompt,
        enhanced_prompt=", ".join([part for part in (use.prompt.strip(), *missing) if part]),
        description=_say_effect(spec, reason, strengths, layers, missing, trained_for=files.model_type),
    )


def estimate_memory(found: LoraDescription, gpus: Sequence[Gpu]) -> LoraMemoryImpact:
    """Estimates the memory that a LoRA needs, and compares it with an expert's and with what is free on the GPUs."""
    files = found.files
    needed = max(path.stat().st_size for path in files.paths)
    shapes = [shape for spec in found.fits if (shape := find_shape(spec)) is not None]
    share = needed / min(shape.bf16_bytes for shape in shapes) if shapes else 0.0
    impact = "low" if share < _LOW_SHARE else "medium" if share < _MEDIUM_SHARE else "high"
    needed_mb = needed / 1e6
    available_mb = max((max(0.0, gpu.use.vram_total_mb - gpu.use.vram_used_mb) for gpu in gpus), default=None)
    lacks_memory = available_mb is not None and needed_mb > available_mb
    if found.problem is not None:
        advice = found.problem
    elif lacks_memory:
        advice = (
            f"It needs {needed_mb:.1f} MB, and the GPUs have at most {available_mb:.1f} MB free now. A job with it "
            "needs a model that is streamed or offloaded, or memory that another job frees."
        )
    elif impact == "high":
        advice = f"It adds about {share:.0%} to an expert's weights. Prefer a LoRA of a lower rank, or in bf16."
    else:
        advice = f"It adds about {max(share, 0.001):.1%} to an expert's weights. Memory plans take it into account."
    return LoraMemoryImpact(
        lora_name=files.name,
        file_size_mb=round(files.size_bytes / 1e6, 3),
        estimated_memory_mb=round(needed_mb, 3),
        vram_available_mb=None if available_mb is None else round(available_mb, 3),
        can_load=found.problem is None and not lacks_memory,
        memory_impact=impact,
        recommendation=advice,
    )


def _choose(serving: Services, found: LoraDescription, name: str) -> ModelSpec:
    """Returns the model that a request names. `auto` prefers the type that the LoRA was trained for."""
    if name.strip().lower() != AUTO:
        return choose_model(serving.served, name)
    preferred = [spec for spec in found.fits if spec.type is found.files.model_type]
    return next(iter([*preferred, *found.fits, *serving.served]))


def _say_effect(
    spec: ModelSpec,
    reason: str | None,
    strengths: dict[str, float],
    layers: int,
    missing: list[str],
    *,
    trained_for: str | None,
) -> str:
    if reason is not None:
        return f"{spec.id} can't use this LoRA: {reason}. A job with it would be rejected."
    if not strengths:
        return f"With these strengths the LoRA changes nothing in a video of {spec.id}."
    experts = " and ".join(f"the {name.replace('_', '-')} expert at {value:g}" for name, value in strengths.items())
    sentences = [f"Changes {layers} layers of {spec.id}: {experts}."]
    if trained_for is not None and trained_for != spec.type:
        sentences.append(f"It was trained for {trained_for}, so its effect on {spec.type} may differ.")
    if "high_noise" not in strengths:
        sentences.append("It changes details more than composition and movement.")
    if "low_noise" not in strengths and spec.guidance_scale_2 is not None:
        sentences.append("It changes composition and movement more than details.")
    if max(strengths.values()) > 1:
        sentences.append("Strengths above 1 exaggerate the effect and may cause artifacts.")
    if missing:
        sentences.append(f"The prompt lacks trigger words: {', '.join(missing)}.")
    return " ".join(sentences)

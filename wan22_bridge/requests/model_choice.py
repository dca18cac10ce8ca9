"""The served model that a request names."""

from collections.abc import Sequence

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.types import ModelType

AUTO = "auto"
"""Model name that chooses image-to-video if the request has an image, else text-to-video."""

_SHORT_TYPES = {"t2v": ModelType.T2V, "i2v": ModelType.I2V, "ti2v": ModelType.TI2V}


def choose_model(
    served: Sequence[ModelSpec],
    name: str,
    *,
    has_image: bool = False,
    has_video: bool = False,
    has_segments: bool = False,
) -> ModelSpec:
    """Finds the served model with an id, a type or a repository, in any case, or chooses one for `auto`.

    A type stands for the first served model of that type. A repository is named as on the hub, such as
    `Wan-AI/Wan2.2-T2V-A14B-Diffusers`, with or without `-Diffusers`.

    Args:
        served: the models to choose from.
        name: an id, a type such as `T2V-A14B` or `t2v`, a repository, or `auto`.
        has_image: whether the request has a first frame.
        has_video: whether the request is for video-to-video.
        has_segments: whether the request has segments, which a model without image input can't generate.

    Raises:
        InvalidRequest: no served model has that name, or none fits the inputs.
    """
    wanted = name.strip().lower()
    if wanted == AUTO:
        return _choose_by_inputs(served, has_image=has_image, has_video=has_video, has_segments=has_segments)
    short = _SHORT_TYPES.get(wanted)
    for spec in served:
        if spec.id.lower() == wanted:
            return spec
    for spec in served:
        if spec.type.lower() == wanted or spec.type == short:
            return spec
    for spec in served:
        repository = spec.source_ref.lower() if spec.is_fetched else None
        if repository is not None and wanted in (repository, repository.removesuffix("-diffusers")):
            return spec
    names = ", ".join([*(spec.id for spec in served), *dict.fromkeys(spec.type.value for spec in served)])
    raise InvalidRequest(
        f"This service has no model {name[:80]!r}.",
        code="unknown_model",
        param="model_type",
        suggestions=[f"Use one of: {names}, auto."],
    )


def _choose_by_inputs(
    served: Sequence[ModelSpec], *, has_image: bool, has_video: bool, has_segments: bool
) -> ModelSpec:
    order = [ModelType.I2V, ModelType.TI2V] if has_image else [ModelType.T2V, ModelType.TI2V]
    if has_segments and not has_image:
        order = [ModelType.TI2V]
    for model_type in order:
        for spec in served:
            if spec.type == model_type:
                return spec
    code, param, what = "image_required", "image", "without an image"
    if has_image:
        code, what = "image_not_supported", "from an image"
    if has_video:
        code, param, what = "video_not_supported", "video", "from another video"
    raise InvalidRequest(
        f"None of the served models can generate a video {what}.",
        code=code,
        param=param,
        suggestions=[f"The served models are: {', '.join(spec.id for spec in served)}."],
    )

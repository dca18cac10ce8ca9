"""Checks that a request's inputs go together and fit its model."""

from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.requests.request import GenerationRequest


def check_combination(request: GenerationRequest) -> None:
    """Checks that the inputs go together.

    Raises:
        InvalidRequest: a video for video-to-video comes with an image, or a strength without a video.
    """
    for name in ("image", "end_image"):
        if request.video is not None and getattr(request, name) is not None:
            raise InvalidRequest(
                f"video and {name} can't be combined: video-to-video takes every frame from the video.",
                code="video_with_image",
                param=name,
                suggestions=[
                    f"Send either video or {name}.",
                    "To continue the video from its last frame, send it as image instead.",
                ],
            )
    if request.video is None and request.strength is not None:
        raise InvalidRequest(
            "strength applies to video-to-video only, but no video was sent.",
            code="video_required",
            param="strength",
            suggestions=["Send a video, or leave strength out."],
        )


def check_support(request: GenerationRequest, spec: ModelSpec) -> None:
    """Checks that a model accepts the request's inputs and its options for two experts.

    Raises:
        InvalidRequest: the model lacks an input that it needs, or does not accept one that was sent.
    """
    model = f"{spec.id} ({spec.type})"
    if request.video is not None and not spec.video:
        raise InvalidRequest(
            f"{model} does not support video-to-video.",
            code="video_not_supported",
            param="video",
            suggestions=[
                "Use T2V-A14B or TI2V-5B.",
                "To continue the video from its last frame, send it as image instead.",
            ],
        )
    if request.image is None and spec.image is ImageInput.REQUIRED:
        raise InvalidRequest(
            f"{model} needs an image as the first frame, but none was sent.",
            code="image_required",
            param="image",
            suggestions=["Send an image, or use a text-to-video model."],
        )
    if request.image is not None and spec.image is ImageInput.NONE:
        raise InvalidRequest(
            f"{model} does not accept an image.",
            code="image_not_supported",
            param="image",
            suggestions=["Leave the image out, or use I2V-A14B or TI2V-5B."],
        )
    if request.end_image is not None and not spec.end_image:
        raise InvalidRequest(
            f"{model} does not accept an image for the last frame.",
            code="end_image_not_supported",
            param="end_image",
            suggestions=["Leave end_image out, or use I2V-A14B."],
        )
    if request.guidance_scale_2 is not None and spec.guidance_scale_2 is None:
        raise InvalidRequest(
            f"{model} has one expert and does not accept guidance_scale_2.",
            code="guidance_scale_2_not_supported",
            param="guidance_scale_2",
            suggestions=["Send guidance_scale alone."],
        )
    if request.boundary_ratio is not None and spec.guidance_scale_2 is None:
        raise InvalidRequest(
            f"{model} has one expert and does not accept boundary_ratio.",
            code="boundary_ratio_not_supported",
            param="boundary_ratio",
            suggestions=["Leave boundary_ratio out."],
        )

"""Requests: their validation, and their conversion into complete parameters."""

from wan22_bridge.requests.model_choice import AUTO, choose_model
from wan22_bridge.requests.prompts import require_prompt
from wan22_bridge.requests.request import GenerationRequest, InputImage, InputVideo, RequestedSegment
from wan22_bridge.requests.resolving import change_prompt, resolve_params

__all__ = [
    "AUTO",
    "GenerationRequest",
    "InputImage",
    "InputVideo",
    "RequestedSegment",
    "change_prompt",
    "choose_model",
    "require_prompt",
    "resolve_params",
]

"""Names of request fields: those that the API declares, and those under which other servers' clients send them."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from serve_app.api.schemas.submissions import SubmitRequest

INPUTS = ("image", "end_image", "video")
"""Names of the inputs, which are sent as files, or as the id or the content of a file."""
CONTAINERS = ("extra_body", "extra_params", "extra_args", "video_params")
"""Objects whose keys count as fields of the body, unless the body has the same field itself."""
SIDES = ("width", "height")
"""Fields that give the size together."""
MAX_SIDE = 999_999
"""Largest width or height in pixels that is read as such. Models have smaller limits."""
LORA = "lora"
"""A single LoRA with its `name` or `path`, and its `scale`."""
ALIASES: Mapping[str, str] = {
    "model": "model_type",
    "model_id": "model_type",
    "size": "resolution",
    "duration": "seconds",
    "num_inference_steps": "steps",
    "inference_steps": "steps",
    "n": "num_outputs",
    "cfg_scale": "guidance_scale",
    "true_cfg_scale": "guidance_scale",
    "input_reference": "image",
    "image_reference": "image",
    "image_url": "image",
    "last_image": "end_image",
}
"""Declared names by their aliases."""
WEAK_ALIASES = ("true_cfg_scale",)
"""Aliases that a request may send beside the declared name: that name wins, because servers read only one of them."""
_MAX_NAME_CHARACTERS = 80
"""Maximum length of a name that is compared with the known ones."""
WITHOUT_EFFECT = ("user", "response_format", "safety_identifier")
"""Fields that say nothing about the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unavailable:
    """A field of other servers that asks for something that this service can't do."""

    instead: str
    """Advice for the client, one sentence."""
    harmless: tuple[str, ...] = ()
    """Values, as texts, that ask for nothing. Null, false, zero and empty values never do."""


_SILENT = Unavailable(instead="Videos have no sound: leave it out, and add sound with another program.")
_RATE = Unavailable(instead="Leave it out, and set fps and num_frames.", harmless=("1", "1.0"))
UNAVAILABLE: Mapping[str, Unavailable] = {
    "generate_sound": _SILENT,
    "generate_audio": _SILENT,
    "sound_duration": _SILENT,
    "audio": _SILENT,
    "audio_url": _SILENT,
    "characters": Unavailable(instead="Leave it out, and send an image of the character as the first frame."),
    "quality": Unavailable(
        instead="Leave it out, and set the size and steps, or a preset.", harmless=("auto", "default", "standard")
    ),
    "output_quality": Unavailable(instead="Leave it out: the mp4 has one quality.", harmless=("default",)),
    "output_compression": Unavailable(instead="Leave it out: the mp4 has one quality."),
    "output_format": Unavailable(instead="Leave it out: the video is an mp4.", harmless=("mp4", "video/mp4")),
    "output_path": Unavailable(instead="Leave it out, and download the video."),
    "style": Unavailable(instead="Leave it out, and describe the style in prompt."),
    "watermark": Unavailable(instead="Leave it out, and add a watermark with another program."),
    "enable_frame_interpolation": _RATE,
    "frame_interpolation_exp": _RATE,
    "frame_interpolation_scale": _RATE,
    "frame_interpolation_model_path": _RATE,
    "enable_upscaling": Unavailable(instead="Leave it out, and ask for the size that you need."),
    "enable_teacache": Unavailable(instead="Leave it out, and set step_cache."),
    "max_sequence_length": Unavailable(instead="Leave it out: prompts have up to 512 tokens.", harmless=("512",)),
    "stream": Unavailable(instead="Leave it out, and poll the job or follow its events."),
}


def find_field(name: str) -> str | None:
    """Returns the name in this module, or the declared name, that a client's name stands for; None for an unknown one.

    Case, underscores and hyphens do not count, so that `numFrames` stands for `num_frames`.
    """
    return _BY_LETTERS.get(_letters(name))


def nearest_field(name: str) -> str | None:
    """Returns the known name that is most like an unknown one; None if no name is like it."""
    if len(name) > _MAX_NAME_CHARACTERS:  # comparing long names takes seconds
        return None
    found = get_close_matches(_letters(name), _BY_LETTERS, n=1)
    return _BY_LETTERS[found[0]] if found else None


def describe_aliases(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schemas of all fields that `SubmitRequest` does not declare, by name.

    Args:
        properties: the JSON schemas of the declared fields.
    """
    reference = {
        "type": "string",
        "description": "An input: a file, the id of an upload, a base64 data URL, or an https URL, if the operator "
        "allows that.",
    }
    described: dict[str, Any] = {}
    for alias, name in ALIASES.items():
        schema = {key: value for key, value in properties.get(name, reference).items() if key != "default"}
        described[alias] = schema | {"description": f"Same as `{name}`."}
    for side in SIDES:
        described[side] = {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_SIDE,
            "description": "Pixels; width and height give the size.",
        }
    text = {"type": "string", "minLength": 1}
    described[LORA] = {
        "type": "object",
        "anyOf": [{"required": ["name"]}, {"required": ["path"]}],
        "properties": {
            "name": text,
            "path": text | {"pattern": "[A-Za-z0-9][^/]*$"},
            "scale": {"type": "number", "minimum": 0, "maximum": 2},
        },
        "description": "A LoRA as `{name, path, scale}`; `loras` takes several.",
    }
    for name in CONTAINERS:
        described[name] = {"type": "object", "description": "Further fields: the body's own fields win over them."}
    for name in WITHOUT_EFFECT:
        described[name] = {"type": "string", "description": "Accepted without effect, for compatibility."}
    return described


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


_BY_LETTERS: Mapping[str, str] = {
    _letters(name): name
    for name in (
        *UNAVAILABLE,
        *WITHOUT_EFFECT,
        *CONTAINERS,
        *SIDES,
        LORA,
        *ALIASES,
        *INPUTS,
        *SubmitRequest.model_fields,
    )
}

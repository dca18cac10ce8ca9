"""Trigger words of LoRAs: from their metadata, or from the files that web sites and other programs put beside them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wan22_bridge.models.bounded_json import parse_json

_METADATA_KEYS = ("modelspec.trigger_phrase", "trigger_words", "trigger_phrase", "ss_trigger_words")
_TAG_COUNTS = "ss_tag_frequency"
"""Number of captions with each tag, by folder of the training data. kohya's trainers write it."""
_SIDECARS = {".civitai.info": "trainedWords", ".json": "activation text"}
"""Endings of the files beside a LoRA, and the key that holds the trigger words."""
_MAX_SIDECAR_BYTES = 2**20
_MAX_WORDS = 20
_MAX_TAGS = 3


def find_trigger_words(files: Sequence[Path], metadata: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Returns the trigger words from the first source that has any: metadata, a file beside the LoRA, training tags.

    Training tags count only if they are in the most captions of their folder, at most three of them.

    Args:
        files: The LoRA's files.
        metadata: Metadata of each file.
    """
    found = list(metadata)
    stated = [texts[key] for key in _METADATA_KEYS for texts in found if texts.get(key)]
    beside = [_read_sidecar(path.with_suffix(ending), key) for ending, key in _SIDECARS.items() for path in files]
    trained = [_most_frequent_tags(texts.get(_TAG_COUNTS, "")) for texts in found]
    return next((words for value in (*stated, *beside, *trained) if (words := _split(value))), ())


def _split(value: Any) -> tuple[str, ...]:
    """Splits a list of words, or a text with commas, into words."""
    texts = value if isinstance(value, list) else [value]
    words = [word.strip() for text in texts if isinstance(text, str) for word in text.split(",")]
    return tuple(dict.fromkeys(word for word in words if word))[:_MAX_WORDS]


def _read_sidecar(path: Path, key: str) -> Any:
    try:
        if path.stat().st_size > _MAX_SIDECAR_BYTES:
            return None
        content = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content.get(key) if isinstance(content, dict) else None


def _most_frequent_tags(text: str) -> list[str]:
    try:
        folders = parse_json(text)
        counts = [(count, tag) for tags in folders.values() for tag, count in tags.items() if isinstance(count, int)]
    except (ValueError, AttributeError):
        return []
    most = max((count for count, _ in counts), default=0)
    return [tag for count, tag in counts if count == most][:_MAX_TAGS]

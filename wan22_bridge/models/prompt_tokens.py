"""Tokens of a prompt beyond the text encoder's limit. Importing this module does not import torch."""

import html
import re
from pathlib import Path
from threading import Lock

import ftfy
from tokenizers import Tokenizer

from wan22_bridge.builtin.family import WEIGHTS
from wan22_bridge.catalogue import ModelSpec

MAX_TEXT_TOKENS = 512
"""Maximum tokens of a prompt, as in Wan2.2's training; the rest of a longer prompt is cut off."""


class PromptTokens:
    """Counts the tokens that models cut off, with each model's own tokenizer."""

    def __init__(self, models_dir: Path) -> None:
        """Loads nothing yet: a tokenizer loads with the first prompt that may be too long for it.

        Args:
            models_dir: Folder of the models that the service fetches.
        """
        self._models_dir = models_dir
        self._tokenizers: dict[Path, Tokenizer] = {}
        self._lock = Lock()

    def count_dropped(self, spec: ModelSpec, prompt: str) -> int | None:
        """Returns the number of tokens that a model cuts off; None if the model's tokenizer is not on this machine."""
        text = _clean(prompt)
        if len(text.encode()) < MAX_TEXT_TOKENS - 2:
            return 0  # A token has at least one byte, apart from a word separator at the start and the end token.
        path = _tokenizer_folder(spec, self._models_dir) / "tokenizer.json"
        with self._lock:
            if path not in self._tokenizers:
                try:
                    tokenizer = Tokenizer.from_file(str(path))
                except Exception:  # noqa: BLE001  # the library raises no other for a missing or incomplete file
                    return None
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._tokenizers[path] = tokenizer
            tokens = self._tokenizers[path].encode(text).ids
        return max(0, len(tokens) - MAX_TEXT_TOKENS)


def _tokenizer_folder(spec: ModelSpec, models_dir: Path) -> Path:
    if spec.path is not None:
        return spec.path / "tokenizer"
    return (models_dir / spec.id if spec.is_fetched else WEIGHTS) / "tokenizer"


def _clean(text: str) -> str:
    """Returns a text as the tokenizer gets it. Follows `prompt_clean` of diffusers 0.42.1, which imports torch."""
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", unescaped).strip()

"""The prompt guide of configs/prompts.yaml: aspects of a video, phrases for them, and styles."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

import configs

_WORD = r"[^\W\u3400-\u9fff]"
"""Characters of words in scripts with spaces. Chinese has none, so its words match anywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """A phrase for an aspect, with the condition under which it is used."""

    en: str
    zh: str
    when: re.Pattern[str] | None
    """Expression that the prompt must contain."""
    unless: re.Pattern[str] | None
    """Expression that the prompt must not contain."""

    def suits(self, prompt: str) -> bool:
        """Returns whether the phrase may be added to a prompt."""
        wanted = self.when is None or self.when.search(prompt) is not None
        return wanted and (self.unless is None or self.unless.search(prompt) is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aspect:
    """Something that a prompt should say."""

    name: str
    option: str
    """Name of the option that switches the aspect on."""
    missing: str
    """Advice for a prompt that lacks the aspect; empty if it may be missing."""
    words: re.Pattern[str]
    """Expression that shows that the prompt covers the aspect."""
    additions: Sequence[Addition]


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """A style of videos."""

    name: str
    display_name: str
    description: str
    words: re.Pattern[str]
    """Expression that shows that the prompt asks for the style."""
    en: str
    zh: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Guide:
    """The whole guide."""

    aspects: Sequence[Aspect]
    styles: Sequence[Style]
    default_style: Style
    """Style that is added where the prompt has none."""
    other_style: re.Pattern[str]
    """Expression that shows that a prompt asks for a style that is not in `styles`."""
    vace: re.Pattern[str]
    """Expression by which a prompt refers to VACE."""


@cache
def load_guide() -> Guide:
    """Loads the guide."""
    data = yaml.safe_load(configs.prompts_file().read_text("utf-8"))
    styles = [Style(**entry | {"words": _compile(entry["words"])}) for entry in data["styles"]]
    return Guide(
        aspects=[_parse_aspect(entry) for entry in data["aspects"]],
        styles=styles,
        default_style=next(style for style in styles if style.name == data["default_style"]),
        other_style=_compile(data["other_style"]),
        vace=_compile(data["vace"]),
    )


def _parse_aspect(entry: dict[str, Any]) -> Aspect:
    additions = [
        Addition(
            en=item["en"],
            zh=item["zh"],
            when=_compile(item["when"]) if "when" in item else None,
            unless=_compile(item["unless"]) if "unless" in item else None,
        )
        for item in entry["additions"]
    ]
    return Aspect(**entry | {"words": _compile(entry["words"]), "additions": additions})


def _compile(words: Sequence[str]) -> re.Pattern[str]:
    """Returns one expression for several that each match whole words, in any case."""
    either = "|".join(f"(?:{word})" for word in words)
    return re.compile(rf"(?<!{_WORD})(?:{either})(?!{_WORD})", re.IGNORECASE)

"""Enhancement of prompts by rules: it adds what the prompt lacks, and changes nothing that the prompt says.

The result depends on the prompt and the options alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.prompting.guide import Style, load_guide
from wan22_bridge.requests.prompts import MAX_TEXT_CHARACTERS, require_prompt

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_LETTERS_OF_OTHER_LANGUAGES = re.compile(r"[^\W\d_a-zA-Z\u3400-\u9fff]")
_ENGLISH = re.compile(r"\b(the|of|with|and|through|from|is|are|to|by|at|over)\b", re.IGNORECASE)
_FEW_WORDS, _FEW_CHINESE_CHARACTERS = 6, 10
_FULL_STOPS, _COMMAS = ".。!！?？", ",，;；:："


@dataclass(frozen=True, kw_only=True, slots=True)
class EnhanceOptions:
    """Parts of the guide to apply."""

    apply_cinematic: bool = True
    """Whether to add motion, light, camera and lens."""
    apply_style: bool = True
    """Whether to add a style."""
    apply_vace: bool = True
    """Whether to add a phrase on consistency to a prompt that mentions VACE."""
    style: str | None = None
    """Name of the style to add. By default the style that the prompt names, else the guide's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Enhancement:
    """An enhanced prompt, and what was changed."""

    original: str
    enhanced: str
    applied: list[str] = field(default_factory=list)
    """Additions, each as `ASPECT: PHRASE`."""
    notes: list[str] = field(default_factory=list)
    """Reasons why something was not added."""


def enhance(prompt: str, options: EnhanceOptions | None = None) -> Enhancement:
    """Adds to a prompt what it lacks, within the limit on its length.

    Raises:
        InvalidRequest: The prompt is not valid, or there is no such style.
    """
    options = options or EnhanceOptions()
    original = require_prompt(prompt)
    wanted = find_style(options.style) if options.style else None
    if _LETTERS_OF_OTHER_LANGUAGES.search(original) and not _ENGLISH.search(original):
        note = "The rules know English and Chinese only, so nothing was added."
        return Enhancement(original=original, enhanced=original, notes=[note])
    chinese = _CHINESE.search(original) is not None
    phrases, notes = _choose_phrases(original, options, wanted, chinese=chinese)
    enhanced, applied = original, []
    for name, phrase in phrases:
        longer = _append(enhanced, phrase, chinese=chinese)
        if len(longer) > MAX_TEXT_CHARACTERS:
            notes.append(f"No room for {name}: a prompt has at most {MAX_TEXT_CHARACTERS} characters.")
            continue
        enhanced = longer
        applied.append(f"{name}: {phrase}")
    return Enhancement(original=original, enhanced=enhanced, applied=applied, notes=notes)


def detect_style(prompt: str) -> Style | None:
    """Returns the style that a prompt names first, or None."""
    found = [(match.start(), style) for style in load_guide().styles if (match := style.words.search(prompt))]
    return min(found, key=lambda item: item[0])[1] if found else None


def mentions_vace(prompt: str) -> bool:
    """Returns whether a prompt refers to VACE."""
    return load_guide().vace.search(prompt) is not None


def find_missing(prompt: str) -> list[str]:
    """Returns advice on what a prompt lacks, a sentence for each aspect."""
    few = _FEW_CHINESE_CHARACTERS if _CHINESE.search(prompt) else 0
    is_short = len(prompt) < few if few else len(prompt.split()) < _FEW_WORDS
    advice = ["Describe the subject and the scene in more detail."] if is_short else []
    advice += [aspect.missing for aspect in load_guide().aspects if aspect.missing and not aspect.words.search(prompt)]
    if detect_style(prompt) is None:
        advice.append("Name a style, such as cinematic or anime.")
    return advice


def _choose_phrases(
    prompt: str, options: EnhanceOptions, wanted: Style | None, *, chinese: bool
) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns the phrases to add, with the names of their aspects, and notes on what is not added."""
    phrases: list[tuple[str, str]] = []
    notes: list[str] = []
    style = detect_style(prompt)
    context = f"{prompt} {wanted.en}" if wanted and style is None else prompt
    for aspect in load_guide().aspects:
        if getattr(options, aspect.option) and not aspect.words.search(prompt):
            suiting = next((addition for addition in aspect.additions if addition.suits(context)), None)
            if suiting is not None:
                phrases.append((aspect.name, suiting.zh if chinese else suiting.en))
    if not options.apply_style:
        return phrases, notes
    if style is not None and wanted not in (None, style):
        notes.append(f"The prompt asks for the style {style.name} already, so {options.style} was not added.")
    elif style is None and (wanted or not load_guide().other_style.search(prompt)):
        chosen = wanted or load_guide().default_style
        phrases.append(("style", chosen.zh if chinese else chosen.en))
    return phrases, notes


def find_style(name: str) -> Style:
    """Returns the style with a name, in any case.

    Raises:
        InvalidRequest: There is no such style.
    """
    styles: Sequence[Style] = load_guide().styles
    for style in styles:
        if style.name == name.strip().lower():
            return style
    raise InvalidRequest(
        f"There is no style {name[:80]!r}.",
        code="unknown_style",
        param="options.style",
        suggestions=[f"Use one of: {', '.join(style.name for style in styles)}."],
    )


def _append(prompt: str, phrase: str, *, chinese: bool) -> str:
    """Adds a phrase behind a prompt, after a comma unless the prompt ends with a sign of its own."""
    space = "" if chinese else " "
    if prompt[-1] in _FULL_STOPS:
        return f"{prompt}{space}{phrase[0].upper()}{phrase[1:]}"
    if prompt[-1] in _COMMAS:
        return f"{prompt}{space}{phrase}"
    return f"{prompt}，{phrase}" if chinese else f"{prompt}, {phrase}"

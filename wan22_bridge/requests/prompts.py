"""Checks of prompts and other texts."""

from wan22_bridge.errors import InvalidRequest

MAX_TEXT_CHARACTERS = 2000


def require_prompt(text: str) -> str:
    """Returns a prompt without surrounding white space.

    Raises:
        InvalidRequest: the prompt is empty, too long, or not valid text.
    """
    prompt = check_text(text, "prompt")
    if not prompt:
        raise InvalidRequest(
            "prompt is empty.",
            code="prompt_empty",
            param="prompt",
            suggestions=["Describe in prompt what the video shows."],
        )
    return prompt


def check_text(text: str, param: str) -> str:
    """Returns the text of a field without surrounding white space.

    Args:
        text: the field's value.
        param: the field's name, for the error.

    Raises:
        InvalidRequest: the text is too long, or holds characters that are not valid text.
    """
    text = text.strip()
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"{param} has {len(text)} characters: expected at most {MAX_TEXT_CHARACTERS}.",
            code="prompt_too_long",
            param=param,
            suggestions=[f"Shorten {param} to {MAX_TEXT_CHARACTERS} characters."],
        )
    if "\x00" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise InvalidRequest(
            f"{param} contains characters that are not valid text: NUL, or half of a surrogate pair.",
            code="invalid_prompt",
            param=param,
            suggestions=[f"Remove those characters from {param}."],
        )
    return text

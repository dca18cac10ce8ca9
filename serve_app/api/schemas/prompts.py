"""Bodies of the native API's requests and responses about prompts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from serve_app.api.schemas.texts import Prompt
from wan22_bridge.prompting import Enhancement, EnhanceOptions, Style, detect_style, mentions_vace

MAX_CHECKED_CHARACTERS = 20_000
"""Maximum length of a text that is checked as a prompt. The check says that a text of more than 2000 is too long."""
_Request = ConfigDict(extra="forbid", use_attribute_docstrings=True)
_Answer = ConfigDict(use_attribute_docstrings=True)


class PromptOptions(BaseModel):
    """Parts of an enhancement. Null stands for the default."""

    model_config = _Request

    apply_cinematic: StrictBool | None = None
    """Whether to add motion, light, camera and lens where the prompt has none. By default true."""
    apply_style: StrictBool | None = None
    """Whether to add a style to a prompt that has none. By default true."""
    apply_vace: StrictBool | None = None
    """Whether to add a phrase on consistency to a prompt that mentions VACE. By default true."""
    style: str | None = None
    """Name of the style to add, one of `GET /prompt/styles`. By default cinematic."""
    method: Literal["auto", "rules"] | None = None
    """`rules` adds phrases without a language model. `auto`, the default, uses the service's language model if it has
    one, else the rules."""

    def to_options(self) -> EnhanceOptions:
        """Returns the options as the rules take them."""
        return EnhanceOptions(**self.model_dump(exclude={"method"}, exclude_none=True))


class EnhanceRequest(BaseModel):
    """A prompt to enhance."""

    model_config = _Request

    prompt: Prompt
    """The prompt, 1 to 2000 characters."""
    options: PromptOptions | None = None


class PromptRequest(BaseModel):
    """A prompt to check."""

    model_config = _Request

    prompt: str = Field(max_length=MAX_CHECKED_CHARACTERS)
    """The prompt. A valid one has 1 to 2000 characters."""


class PreviewRequest(PromptRequest):
    """A prompt to check, and to enhance if it is valid."""

    options: PromptOptions | None = None


class CharacterCount(BaseModel):
    """Lengths of a prompt in characters."""

    model_config = _Answer

    original: int
    enhanced: int
    difference: int


class Enhanced(BaseModel):
    """An enhanced prompt. Nothing is applied to a job: a submission has the prompt that the client sends."""

    model_config = _Answer

    original_prompt: str
    """The prompt without surrounding white space."""
    enhanced_prompt: str
    enhancements_applied: list[str]
    """Additions, each as `ASPECT: PHRASE`. Empty if the prompt lacks nothing."""
    character_count: CharacterCount
    detected_style: str | None
    """Name of the style that the original prompt asks for; null if it asks for none that is known."""
    vace_detected: bool
    """Whether the original prompt mentions VACE, a model for video editing that this service does not run."""
    method: Literal["rules", "model"]
    """Whether rules or a language model enhanced the prompt."""
    notes: list[str]
    """Reasons why something was not added."""

    @classmethod
    def of(cls, found: Enhancement, method: Literal["rules", "model"]) -> "Enhanced":
        """Describes an enhancement."""
        return cls(
            original_prompt=found.original,
            enhanced_prompt=found.enhanced,
            enhancements_applied=found.applied,
            character_count=CharacterCount(
                original=len(found.original),
                enhanced=len(found.enhanced),
                difference=len(found.enhanced) - len(found.original),
            ),
            detected_style=style.name if (style := detect_style(found.original)) else None,
            vace_detected=mentions_vace(found.original),
            method=method,
            notes=found.notes,
        )


class PromptCheck(BaseModel):
    """Whether a prompt can be submitted, and what it lacks."""

    model_config = _Answer

    is_valid: bool
    """Whether a submission accepts the prompt."""
    message: str
    character_count: int
    """Length without surrounding white space."""
    suggestions: list[str]
    """Advice: how to make the prompt valid, or what it does not mention yet."""


class PromptPreview(PromptCheck):
    """A check of a prompt, and what the rules would add to it. For an invalid prompt both prompts are equal."""

    original_prompt: str
    enhanced_prompt: str
    enhancements_applied: list[str]
    detected_style: str | None
    """Name of the style that the prompt asks for; null if it asks for none that is known."""
    vace_detected: bool
    """Whether the prompt mentions VACE, a model for video editing that this service does not run."""


class StyleInfo(BaseModel):
    """A style that the rules know."""

    model_config = _Answer

    name: str
    display_name: str
    description: str

    @classmethod
    def of(cls, style: Style) -> "StyleInfo":
        """Describes a style."""
        return cls(name=style.name, display_name=style.display_name, description=style.description)


class StyleList(BaseModel):
    """All styles that the rules know."""

    model_config = _Answer

    styles: list[StyleInfo]
    total_count: int

"""The native API's routes for prompts: checks, and enhancement on request."""

import os

from fastapi import APIRouter

from serve_app.api.access.callers import NEEDS_READ, NEEDS_SUBMIT
from serve_app.api.schemas.prompts import (
    Enhanced,
    EnhanceRequest,
    PreviewRequest,
    PromptCheck,
    PromptOptions,
    PromptPreview,
    PromptRequest,
    StyleInfo,
    StyleList,
)
from serve_app.api.services import Serving
from serve_app.settings import PromptEnhancerSettings
from wan22_bridge.errors import InvalidRequest, NotReady
from wan22_bridge.prompting import (
    ChatEndpoint,
    detect_style,
    enhance,
    enhance_by_chat,
    find_missing,
    load_guide,
    mentions_vace,
)
from wan22_bridge.requests import require_prompt

router = APIRouter(prefix="/api/v1/prompt", tags=["prompts"])


@router.post("/enhance", dependencies=[NEEDS_SUBMIT])
async def enhance_prompt(request: EnhanceRequest, serving: Serving) -> Enhanced:
    """Adds to a prompt what it lacks. Nothing that it says is changed by the rules.

    With `prompt_enhancer` in the service's settings, a language model rewrites the prompt. If it fails, the response is
    503 `prompt_enhancer_unavailable`; the rules do not take its place unless the request asks for them.
    """
    options = request.options or PromptOptions()
    settings = serving.settings.prompt_enhancer
    if settings is None or options.method == "rules":
        return Enhanced.of(enhance(request.prompt, options.to_options()), "rules")
    return Enhanced.of(await enhance_by_chat(request.prompt, options.to_options(), _endpoint(settings)), "model")


@router.post("/preview", dependencies=[NEEDS_READ])
def preview_prompt(request: PreviewRequest) -> PromptPreview:
    """Checks a prompt, and shows what the rules would add. It asks no language model, so a form may call it often."""
    check = _check(request.prompt)
    original = request.prompt.strip()
    enhanced, applied = original, list[str]()
    if check.is_valid:
        found = enhance(original, (request.options or PromptOptions()).to_options())
        enhanced, applied = found.enhanced, found.applied
    style = detect_style(original)
    return PromptPreview(
        **check.model_dump(),
        original_prompt=original,
        enhanced_prompt=enhanced,
        enhancements_applied=applied,
        detected_style=style.name if style else None,
        vace_detected=mentions_vace(original),
    )


@router.post("/validate", dependencies=[NEEDS_READ])
def validate_prompt(request: PromptRequest) -> PromptCheck:
    """Checks whether a submission accepts a prompt, and says what the prompt does not mention yet."""
    return _check(request.prompt)


@router.get("/styles", dependencies=[NEEDS_READ])
def list_styles() -> StyleList:
    """Returns the styles that the rules recognize and can add."""
    styles = [StyleInfo.of(style) for style in load_guide().styles]
    return StyleList(styles=styles, total_count=len(styles))


def _check(prompt: str) -> PromptCheck:
    try:
        text = require_prompt(prompt)
    except InvalidRequest as exc:
        return PromptCheck(
            is_valid=False, message=exc.message, character_count=len(prompt.strip()), suggestions=exc.suggestions
        )
    missing = find_missing(text)
    message = "The prompt is valid, and could say more." if missing else "The prompt is valid."
    return PromptCheck(is_valid=True, message=message, character_count=len(text), suggestions=missing)


def _endpoint(settings: PromptEnhancerSettings) -> ChatEndpoint:
    """Returns the configured endpoint, with the key from the environment."""
    key = None
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env)
        if not key:
            raise NotReady(
                f"The prompt enhancer of this service has no key: the environment variable {settings.api_key_env} is "
                "not set.",
                code="prompt_enhancer_unavailable",
                suggestions=['Send options.method "rules" to enhance the prompt without a language model.'],
                can_retry=False,
            )
    return ChatEndpoint(url=settings.url, model=settings.model, api_key=key, timeout_seconds=settings.timeout_seconds)

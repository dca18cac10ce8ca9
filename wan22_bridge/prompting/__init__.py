"""Prompt enhancement on request: by rules, or by a language model behind a chat endpoint."""

from wan22_bridge.prompting.chat import ChatEndpoint, enhance_by_chat
from wan22_bridge.prompting.guide import Guide, Style, load_guide
from wan22_bridge.prompting.rules import Enhancement, EnhanceOptions, detect_style, enhance, find_missing, mentions_vace

__all__ = [
    "ChatEndpoint",
    "EnhanceOptions",
    "Enhancement",
    "Guide",
    "Style",
    "detect_style",
    "enhance",
    "enhance_by_chat",
    "find_missing",
    "load_guide",
    "mentions_vace",
]

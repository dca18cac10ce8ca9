"""The built-in model family: real Wan2.2 architectures, small enough for two CPU cores."""

from wan22_bridge.builtin.family import BUILTIN_LORAS, FAMILY, ensure_tiny_model, find_parts, tiny_model_dir

__all__ = ["BUILTIN_LORAS", "FAMILY", "ensure_tiny_model", "find_parts", "tiny_model_dir"]

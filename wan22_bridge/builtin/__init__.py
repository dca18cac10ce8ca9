"""Built-in tiny models: the Wan2.2 architectures at a size that runs on two CPU cores."""

from wan22_bridge.builtin.family import BUILTIN_LORAS, FAMILY, ensure_tiny_model, find_parts, tiny_model_dir

__all__ = ["BUILTIN_LORAS", "FAMILY", "ensure_tiny_model", "find_parts", "tiny_model_dir"]

"""The built-in model family: real Wan2.2 architectures, small enough for two CPU cores."""

from wan22_bridge.tiny.family import FAMILY, ensure_tiny_model, tiny_model_dir

__all__ = ["FAMILY", "ensure_tiny_model", "tiny_model_dir"]

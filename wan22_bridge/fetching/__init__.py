"""Fetching models: from the hub or a mirror of it, checked, resumed, and once."""

from wan22_bridge.fetching.fetch import Fetching, Stopped, fetch_model
from wan22_bridge.fetching.manifest import NAME, FileState, Manifest, check_files, read_manifest

__all__ = [
    "NAME",
    "Fetching",
    "FileState",
    "Manifest",
    "Stopped",
    "check_files",
    "fetch_model",
    "read_manifest",
]

"""Downloads of models from the hub or a mirror: verified, resumable and locked between processes."""

from wan22_bridge.fetching.fetch import fetch_model
from wan22_bridge.fetching.manifest import (
    MANIFEST_NAME,
    FileState,
    Manifest,
    check_files,
    has_damage,
    is_verified,
    mark_damage,
    read_manifest,
    record_damage,
)
from wan22_bridge.fetching.progress import FetchProgress, FetchStopped

__all__ = [
    "MANIFEST_NAME",
    "FetchProgress",
    "FetchStopped",
    "FileState",
    "Manifest",
    "check_files",
    "fetch_model",
    "has_damage",
    "is_verified",
    "mark_damage",
    "read_manifest",
    "record_damage",
]

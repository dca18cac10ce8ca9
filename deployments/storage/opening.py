"""Opens the storage that the configuration names."""

from pathlib import Path

from deployments.storage.bucket import PATIENCE_SECONDS, BucketStorage
from deployments.storage.folder import Storage


def open_storage(root: Path, url: str | None, *, patience_seconds: float = PATIENCE_SECONDS) -> Storage:
    """The storage in a bucket, or, without a URL, in the folder.

    Raises:
        ConfigurationError: the URL can't be used.
    """
    return Storage(root) if url is None else BucketStorage(root, url, patience_seconds=patience_seconds)

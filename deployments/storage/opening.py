"""Opens the storage that the configuration names. A new backend is one more case here."""

from pathlib import Path

from deployments.storage.bucket import PATIENCE_SECONDS, BucketStorage
from deployments.storage.folder import FolderStorage
from deployments.storage.protocol import Storage


def open_storage(root: Path, url: str | None, *, patience_seconds: float = PATIENCE_SECONDS) -> Storage:
    """Opens a bucket, or, without a URL, a folder.

    Args:
        root: the data folder of this machine.
        url: the setting `storage_url`.
        patience_seconds: how long a failed request to a bucket is repeated.

    Raises:
        ConfigurationError: the URL can't be used.
    """
    if url is None:
        return FolderStorage(root)
    return BucketStorage(root, url, patience_seconds=patience_seconds)

"""Free space on the disk of the data folder, of which the running jobs need a part."""

import shutil
from pathlib import Path

from wan22_bridge.errors import DiskFull

_GB = 10**9


class DiskSpace:
    """Tells whether the disk has space for more data. Without a folder to measure it always has."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        """Takes the limit.

        Args:
            folder: the data folder, which may not exist yet.
            min_free_bytes: space that stays free for the running jobs and the database.
        """
        self._folder, self._min_free_bytes = folder, min_free_bytes

    @property
    def is_short(self) -> bool:
        """Whether less than the limit is free."""
        free_bytes = self.free_bytes
        return free_bytes is not None and free_bytes < self._min_free_bytes

    def require(self, size_bytes: int = 0) -> None:
        """Checks that more data may be stored.

        Args:
            size_bytes: size of the new data.

        Raises:
            DiskFull: less than the limit would be left.
        """
        free_bytes, needed_bytes = self.free_bytes, self._min_free_bytes + size_bytes
        if free_bytes is not None and free_bytes < needed_bytes:
            raise DiskFull(
                f"The disk of the service's data is nearly full: {_format(free_bytes)} are free, and "
                f"{_format(needed_bytes)} are needed. Jobs that run already finish.",
                suggestions=["Delete videos that nobody needs.", "Ask the operator to free space on the disk."],
            )

    @property
    def free_bytes(self) -> int | None:
        """Free bytes; None if the folder can't be measured, which other checks report."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return None


def _format(size_bytes: int) -> str:
    return f"{size_bytes / _GB:.2f} GB"

"""Job databases that have the newest schema already, because tests open hundreds and each migration takes a while."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from deployments.jobs.store import JobStore

FILE_NAME = "jobs.db"
"""Name that the settings give to the database in `data_dir`."""


def write_database(folder: Path) -> None:
    """Writes a database without jobs to a folder, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        JobStore(f"sqlite:///{path}").database.close()
        assert {file.name for file in path.parent.iterdir()} == {FILE_NAME, f".{FILE_NAME}.migrating"}
        return path.read_bytes()

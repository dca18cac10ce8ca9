"""The local folder in which generators work, with every kind of storage."""

import contextlib
import shutil
from pathlib import Path

from deployments.storage.keys import claim_segments_key, output_key, preview_key, snapshot_key


class WorkFolder:
    """Paths below the data folder of one machine. They may not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def loras(self) -> Path:
        """The folder into which operators put LoRAs as .safetensors files."""
        return self.root / "loras"

    @property
    def offload(self) -> Path:
        """The folder for weights that are offloaded to the disk."""
        return self.root / "offload"

    def output_folder(self, job_id: str, fencing_token: int) -> Path:
        """Returns the folder into which one claim of a job writes its output."""
        return self.root / output_key(job_id, fencing_token)

    def snapshot_path(self, job_id: str) -> Path:
        """Returns the file of a job's snapshot. Each claim resumes from the snapshot of the claim before."""
        return self.root / snapshot_key(job_id)

    def segments_folder(self, job_id: str, fencing_token: int) -> Path:
        """Returns the folder of the complete segments of a long video that one claim has, each in a folder."""
        return self.root / claim_segments_key(job_id, fencing_token)

    def preview_path(self, job_id: str) -> Path:
        """Returns the file of a running job's preview."""
        return self.root / preview_key(job_id)

    def remove_claim(self, job_id: str, fencing_token: int) -> None:
        """Removes the output folder of one claim, and the job's folder if nothing else is in it."""
        folder = self.output_folder(job_id, fencing_token)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()

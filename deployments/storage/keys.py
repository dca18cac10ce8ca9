"""Keys of stored files: relative paths such as `inputs/3f…` and `outputs/video_…/1`. Clients never see paths."""

import hashlib
import re
from pathlib import Path

from wan22_bridge.errors import NotFound

INPUTS, OUTPUTS = "inputs", "outputs"
SNAPSHOT = "snapshot.safetensors"
PREVIEW = "preview.webp"
SEGMENTS = "segments"


def input_key(data: bytes) -> str:
    """Returns the key of an input, which depends on its content alone."""
    return upload_key(hashlib.sha256(data).hexdigest())


def upload_key(upload_id: str) -> str:
    """Returns the key of an uploaded input. Its last part is the upload id that clients know.

    Raises:
        NotFound: the id does not have the form of an upload id.
    """
    if re.fullmatch("[0-9a-f]{64}", upload_id) is None:
        raise upload_not_found()
    return f"{INPUTS}/{upload_id}"


def output_key(job_id: str, fencing_token: int) -> str:
    """Returns the key of the output folder of one claim. Each claim of a job writes a folder of its own."""
    return f"{OUTPUTS}/{job_id}/{fencing_token}"


def snapshot_key(job_id: str) -> str:
    """Returns the key of a job's newest snapshot, which all claims of the job share."""
    return f"{OUTPUTS}/{job_id}/{SNAPSHOT}"


def segments_key(job_id: str) -> str:
    """Returns the key of the folder of a job's complete segments, which has a folder for each claim."""
    return f"{OUTPUTS}/{job_id}/{SEGMENTS}"


def claim_segments_key(job_id: str, fencing_token: int) -> str:
    """Returns the key of the folder in which one claim of a job has a folder for each complete segment, by index."""
    return f"{segments_key(job_id)}/{fencing_token}"


def preview_key(job_id: str) -> str:
    """Returns the key of a running job's newest preview."""
    return f"{OUTPUTS}/{job_id}/{PREVIEW}"


def resolve_key(root: Path, key: str) -> Path:
    """Returns the path of a key below a folder, whether it exists or not.

    Raises:
        NotFound: the key leads out of the folder.
    """
    path = (root / key).resolve()
    if not path.is_relative_to(root.resolve()):
        raise file_not_found()
    return path


def upload_not_found() -> NotFound:
    """Returns the error for an id of no upload."""
    return NotFound(
        "There is no such upload.",
        code="upload_not_found",
        suggestions=["Uploads that no job uses are removed after a day. Upload the file again."],
    )


def file_not_found() -> NotFound:
    """Returns the error for a key that leads to no file."""
    return NotFound("There is no such file.", code="file_not_found")

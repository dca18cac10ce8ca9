"""Stores a completed job with its files, without generating a video."""

from pathlib import Path

import numpy as np
from PIL import Image

from deployments.jobs.job import Job
from deployments.jobs.store import JobStore
from deployments.storage.folder import FolderStorage
from tests.jobs import make_job, make_params
from wan22_bridge.media.writer import VideoWriter

_SHRINK = 4


def store_video(store: JobStore, data: Path, *, prompt: str, width: int, height: int) -> Job:
    """Stores a job whose small video stands for one of a larger size.

    Args:
        store: an open store.
        data: the data folder.
        prompt: the job's prompt.
        width: pixels of the video that the job claims to have.
        height: pixels, likewise.
    """
    submitted = store.writer.submit(make_job(params=make_params(prompt=prompt, width=width, height=height)))
    job = store.runner.claim(submitted.id, lease_seconds=60)
    assert job is not None
    folder = FolderStorage(data).work.output_folder(job.id, job.fencing_token)
    folder.mkdir(parents=True)
    columns, rows = width // _SHRINK, height // _SHRINK
    frames = np.full((5, rows, columns, 3), 120, dtype=np.uint8)
    with VideoWriter(folder / "video.mp4", width=columns, height=rows, fps=16, parameters={}) as video:
        video.add(frames)
    for name in ("thumbnail.webp", "last_frame.png"):
        Image.fromarray(frames[-1]).save(folder / name)
    files = {"video": "video.mp4", "thumbnail": "thumbnail.webp", "last_frame": "last_frame.png"}
    size_bytes = (folder / "video.mp4").stat().st_size
    output = {"folder": f"outputs/{job.id}/{job.fencing_token}", "file_size_bytes": size_bytes, **files}
    result = {"generation_time_seconds": 1.0, "parameters_used": job.params.to_dict()}
    return store.runner.complete(job.id, job.fencing_token, output=output, result=result)

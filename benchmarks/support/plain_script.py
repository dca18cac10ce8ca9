"""The baseline of serving_overhead.py: a script with diffusers and PyAV, as a user would write it without this service.

It reads one job per line from stdin, `{"prompt", "seed", "path"}`, and prints the seconds of each.
"""

import json
import os
import sys
import time

import av
import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline


def main() -> None:
    """Loads the model of the given folder, and runs the jobs from stdin."""
    folder, width, height, num_frames, steps, shift, fps = (sys.argv[1], *sys.argv[2:])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=float(shift))
    pipeline.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        frames = pipeline(
            prompt=job["prompt"],
            height=int(height),
            width=int(width),
            num_frames=int(num_frames),
            num_inference_steps=int(steps),
            guidance_scale=4.0,
            guidance_scale_2=3.0,
            generator=torch.Generator().manual_seed(job["seed"]),
        ).frames[0]
        _write(job["path"], frames, int(fps))
        print(time.perf_counter() - began, flush=True)


def _write(path: str, frames: np.ndarray, fps: int) -> None:
    """Writes an mp4 with the codec and the quality of the service."""
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for pixels in (frames * 255).round().astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()

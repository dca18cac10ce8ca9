"""Long videos: each segment is a generation from the last frame of the segment before it, in a folder of its own.

The checkpoint names the folder around them. Each appears only when its segment is complete, so another process resumes
in the segment that was interrupted. At the end, the encoded segments are joined without decoding them.
"""

import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan22_bridge.media.joining import join_videos
from wan22_bridge.media.output import LAST_FRAME, OUTPUT_FILES, THUMBNAIL, VIDEO, place_output
from wan22_bridge.types import SEGMENTS_PERCENT, Checkpoint, GenerationParams, GenerationResult, Progress, Stage

GeneratePart = Callable[[GenerationParams, Path, Path, int], Generator[Progress, None, GenerationResult]]
"""Generates one part from its parameters, its folder, the folder of its inputs, and the number of its first frames to
leave out."""


def generate_segments(
    params: GenerationParams, folder: Path, inputs: Path, checkpoint: Checkpoint | None, generate_part: GeneratePart
) -> Generator[Progress, None, GenerationResult]:
    """Generates all segments that are not complete yet, and joins them into `folder`."""
    started = time.perf_counter()
    parts = params.parts
    if checkpoint:
        kept = checkpoint.segments or checkpoint.path.with_name("segments")
    else:
        kept = folder.with_name(f".{folder.name}.segments")
    folders = [kept / str(index) for index in range(len(parts))]
    results: list[GenerationResult] = []
    resumed_from_step = 0
    for index, part in enumerate(parts):
        if _is_complete(folders[index]):
            resumed_from_step = (index + 1) * part.steps_to_run
            continue
        shutil.rmtree(folders[index], ignore_errors=True)
        if index:
            part = replace(part, image=f"{index - 1}/{LAST_FRAME}")
        run = generate_part(part, folders[index], kept if index else inputs, 1 if index else 0)
        result = yield from _count_over_all(run, index, len(parts))
        if not results:
            resumed_from_step += result.resumed_from_step
        results.append(result)
        if checkpoint:
            checkpoint.path.unlink(missing_ok=True)
            checkpoint.segment_finished(index)
    steps = params.steps_to_run
    yield Progress(
        stage=Stage.SAVING, percent=SEGMENTS_PERCENT, current_step=steps, total_steps=steps, saved_steps=steps
    )
    with place_output(folder) as temporary:
        join_videos([path / VIDEO for path in folders], temporary / VIDEO, params)
        shutil.copyfile(folders[0] / THUMBNAIL, temporary / THUMBNAIL)
        shutil.copyfile(folders[-1] / LAST_FRAME, temporary / LAST_FRAME)
    shutil.rmtree(kept, ignore_errors=True)
    values: dict[str, Any] = {
        "video": folder / VIDEO,
        "thumbnail": folder / THUMBNAIL,
        "last_frame": folder / LAST_FRAME,
        "file_size_bytes": (folder / VIDEO).stat().st_size,
        "generation_time_seconds": round(time.perf_counter() - started, 4),
        "parameters_used": params.to_dict(),
        "resumed_from_step": resumed_from_step,
    }
    if not results:  # every segment was complete already
        return GenerationResult(
            model_used=params.model,
            peak_vram_usage_mb=0.0,
            average_vram_usage_mb=0.0,
            cpu_usage_percent=0.0,
            **values,
        )
    return replace(_combine(results), **values)


def _combine(results: list[GenerationResult]) -> GenerationResult:
    """Returns what the segments that this process has generated needed together."""
    seconds = sum(result.generation_time_seconds for result in results)
    timings: dict[str, float] = {}
    for result in results:
        for stage, taken in result.timings.items():
            timings[stage] = round(timings.get(stage, 0.0) + taken, 4)

    def average(name: str) -> float:
        total = sum(getattr(result, name) * result.generation_time_seconds for result in results)
        return round(total / seconds, 1) if seconds else 0.0

    return replace(
        results[-1],
        peak_vram_usage_mb=max(result.peak_vram_usage_mb for result in results),
        average_vram_usage_mb=average("average_vram_usage_mb"),
        cpu_usage_percent=average("cpu_usage_percent"),
        optimizations_applied=list(dict.fromkeys(name for result in results for name in result.optimizations_applied)),
        offload_used=any(result.offload_used for result in results),
        prompt_tokens_dropped=sum(result.prompt_tokens_dropped for result in results),
        timings=timings,
    )


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in OUTPUT_FILES)


def _count_over_all(
    run: Generator[Progress, None, GenerationResult], index: int, count: int
) -> Generator[Progress, None, GenerationResult]:
    """Passes on one segment's progress, counted over all segments."""
    started = time.perf_counter()
    try:
        while True:
            try:
                own = next(run)
            except StopIteration as end:
                result: GenerationResult = end.value
                return result
            eta_seconds = own.eta_seconds
            if eta_seconds is not None:
                eta_seconds += (count - 1 - index) * (time.perf_counter() - started + eta_seconds)
            yield replace(
                own,
                current_step=index * own.total_steps + own.current_step,
                total_steps=count * own.total_steps,
                saved_steps=index * own.total_steps + own.saved_steps,
                percent=round(SEGMENTS_PERCENT * (index + own.percent / 100) / count, 2),
                eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
            )
    except GeneratorExit:
        run.close()
        raise
    except BaseException as exc:
        run.throw(exc)
        raise

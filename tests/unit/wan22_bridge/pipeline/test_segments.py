"""Long videos from segments, and continuations that are joined to the video that they continue."""

from collections.abc import Generator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.jobs.store import JobStore
from tests.jobs import make_job, make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.videos import mp4, ramp
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.media.inputs import iterate_frames
from wan22_bridge.media.output import LAST_FRAME, THUMBNAIL, VIDEO
from wan22_bridge.media.writer import read_video_info
from wan22_bridge.pipeline.segments import generate_segments
from wan22_bridge.types import (
    SEGMENTS_PERCENT,
    Checkpoint,
    GenerationParams,
    GenerationResult,
    ModelType,
    Progress,
    Stage,
)

pytestmark = pytest.mark.slow

SEGMENTS = [{"prompt": f"a red circle moving {way}", "num_frames": 5, "seed": seed} for seed, way in enumerate("ab")]
PARAMS = make_params(
    model="tiny-ti2v", model_type=ModelType.TI2V, guidance_scale_2=None, num_frames=9, segments=SEGMENTS
)


def _run(
    bridge: ModelIntegrationBridge, load: LoadModel, folder: Path, *, stop_after: int | None = None
) -> tuple[list[Progress], GenerationResult | None]:
    """Generates until a number of reports; returns the reports, and the result if the generation ended."""
    checkpoint = Checkpoint(path=folder / "snapshot.safetensors", interval_seconds=0)
    run = bridge.generate(load("tiny-ti2v"), PARAMS, folder / "out", checkpoint=checkpoint)
    reports: list[Progress] = []
    while stop_after is None or len(reports) < stop_after:
        try:
            reports.append(next(run))
        except StopIteration as end:
            return reports, end.value
    run.close()
    return reports, None


def _shown_segments(folder: Path, reports: list[Progress]) -> list[int | None]:
    """Returns the segment that the job store shows after each report."""
    store = JobStore(f"sqlite:///{folder}/jobs.db")
    job = store.runner.claim(store.writer.submit(make_job(params=PARAMS)).id, lease_seconds=60)
    assert job is not None
    assert job.segment is None
    shown: list[int | None] = []
    for report in reports:
        store.runner.record_progress(job.id, job.fencing_token, report)
        shown.append(store.reader.get(job.id).segment)
    store.database.close()
    return shown


def test_segments_become_one_video_and_progress_counts_over_all(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    finished: list[int] = []
    checkpoint = Checkpoint(
        path=tmp_path / "snapshot.safetensors", interval_seconds=0, segment_finished=finished.append
    )
    reports = list(bridge.generate(load("tiny-ti2v"), PARAMS, tmp_path / "out", checkpoint=checkpoint))

    assert finished == [0, 1]
    assert read_video_info(tmp_path / "out" / "video.mp4").num_frames == 9
    assert {report.total_steps for report in reports} == {4}
    assert max(report.current_step for report in reports) == 4
    percents = [report.percent for report in reports]
    assert percents == sorted(percents)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    shown = _shown_segments(tmp_path, reports)
    assert [number for number, _ in groupby(shown)] == [1, 2, None]
    assert shown.count(1) == shown.count(2), "each report names its own segment"


def test_a_segment_continues_from_the_last_frame_of_the_one_before(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    first, second = PARAMS.parts
    list(bridge.generate(load("tiny-ti2v"), first, tmp_path / "first"))
    continued = replace(second, image="first/last_frame.png")
    list(bridge.generate(load("tiny-ti2v"), continued, tmp_path / "second", inputs=tmp_path))

    list(bridge.generate(load("tiny-ti2v"), PARAMS, tmp_path / "out"))

    last = [np.asarray(Image.open(tmp_path / name / "last_frame.png")) for name in ("second", "out")]
    assert np.array_equal(last[0], last[1])
    whole = list(iterate_frames(tmp_path / "out" / "video.mp4", 100, 64, 64))
    parts = [list(iterate_frames(tmp_path / name / "video.mp4", 100, 64, 64)) for name in ("first", "second")]
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(whole[:5], parts[0], strict=True))
    likeness = [
        np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in zip(whole[5:], parts[1][1:], strict=True)
    ]
    assert max(likeness) < 6


def test_a_stopped_video_resumes_at_every_point_to_the_same_bytes(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    reports, _ = _run(bridge, load, tmp_path / "whole")
    expected = (tmp_path / "whole" / "out" / "video.mp4").read_bytes()

    for count in range(1, len(reports)):
        folder = tmp_path / str(count)
        folder.mkdir()
        _run(bridge, load, folder, stop_after=count)
        again, result = _run(bridge, load, folder)
        assert result is not None
        assert (folder / "out" / "video.mp4").read_bytes() == expected
        assert result.resumed_from_step >= reports[count - 1].current_step - 1
        assert len(again) <= len(reports) + 1


def test_a_joined_continuation_begins_with_its_input(
    bridge: ModelIntegrationBridge, load: LoadModel, tmp_path: Path
) -> None:
    (tmp_path / "input.mp4").write_bytes(mp4(ramp(13, 64, 64)))
    params = replace(PARAMS, segments=(), image="input.mp4", joined_frames=13, num_frames=17)

    list(bridge.generate(load("tiny-ti2v"), params, tmp_path / "out", inputs=tmp_path))

    frames = [np.asarray(image, float) for image in iterate_frames(tmp_path / "out" / "video.mp4", 100, 64, 64)]
    source = [np.asarray(image, float) for image in iterate_frames(tmp_path / "input.mp4", 100, 64, 64)]
    assert len(frames) == 17
    assert max(np.abs(a - b).mean() for a, b in zip(frames[:13], source, strict=True)) < 4
    assert read_video_info(tmp_path / "out" / "video.mp4").parameters == params.to_dict()


def test_the_result_of_a_long_video_covers_all_segments(tmp_path: Path) -> None:
    def generate_part(
        params: GenerationParams, folder: Path, inputs: Path, skipped: int
    ) -> Generator[Progress, None, GenerationResult]:
        yield Progress(stage=Stage.GENERATING, percent=50, current_step=1, total_steps=2, saved_steps=1)
        folder.mkdir(parents=True)
        (folder / VIDEO).write_bytes(mp4(ramp(5 - skipped, params.width, params.height)))
        for name in (THUMBNAIL, LAST_FRAME):
            (folder / name).touch()
        first = params.prompt == SEGMENTS[0]["prompt"]
        return GenerationResult(
            video=folder / VIDEO,
            thumbnail=folder / THUMBNAIL,
            last_frame=folder / LAST_FRAME,
            file_size_bytes=1,
            generation_time_seconds=3.0 if first else 1.0,
            model_used=params.model,
            parameters_used={},
            peak_vram_usage_mb=900.0 if first else 500.0,
            average_vram_usage_mb=600.0 if first else 400.0,
            cpu_usage_percent=80.0 if first else 40.0,
            optimizations_applied=["VAE tiles"] if first else ["experts on demand"],
            offload_used=first,
            timings={"generating": 2.0 if first else 0.5},
            prompt_tokens_dropped=7 if first else 4,
        )

    run = generate_segments(PARAMS, tmp_path / "out", tmp_path, None, generate_part)
    result, saved = None, list[int]()
    try:
        while True:
            saved.append(next(run).saved_steps)
    except StopIteration as end:
        result = end.value

    assert result is not None
    assert saved == [1, 3, 4], "a complete segment counts as a snapshot"
    assert result.peak_vram_usage_mb == 900
    assert result.average_vram_usage_mb == 550
    assert result.cpu_usage_percent == 70
    assert result.optimizations_applied == ["VAE tiles", "experts on demand"]
    assert result.offload_used
    assert result.timings == {"generating": 2.5}
    assert result.prompt_tokens_dropped == 11
    assert result.video == tmp_path / "out" / VIDEO


def test_the_running_segment_is_right_at_each_boundary(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    job = store.runner.claim(store.writer.submit(make_job(params=PARAMS)).id, lease_seconds=60)
    store.database.close()
    assert job is not None
    for count in range(2, 17):
        params = replace(PARAMS, segments=PARAMS.segments[:1] * count)
        for index in range(count):
            begun = round(SEGMENTS_PERCENT * index / count, 2)
            shown = replace(job, params=params, stage="generating", progress=begun).segment
            assert shown == index + 1, f"{shown} of {count} at {begun} %"

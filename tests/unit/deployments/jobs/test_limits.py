"""Limits of keys as text, and limits on the size of videos."""

from typing import Any

import pytest

from deployments.jobs.limits import UNLIMITED, ClientLimits, parse_limit
from tests.jobs import make_params
from wan22_bridge.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("pending_jobs=5", {"pending_jobs": 5}),
        (" gpu_seconds_per_day = 0.5 ", {"gpu_seconds_per_day": 0.5}),
        ("open_sockets=none", {"open_sockets": None}),
        ("open_sockets=None", {"open_sockets": None}),
    ],
)
def test_a_limit_is_parsed(text: str, parsed: dict[str, Any]) -> None:
    assert parse_limit(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pending_jobs", "'pending_jobs' is no limit: expected NAME=VALUE."),
        ("jobs=5", "'jobs=5' is no limit"),
        ("pending_jobs_overall=5", "is no limit"),
        ("pending_jobs=0", "pending_jobs: Input should be greater than or equal to 1, got '0'."),
        ("pending_jobs=1.5", "pending_jobs: "),
        ("gpu_seconds_per_day=inf", "gpu_seconds_per_day: "),
        ("upload_mb_per_day=", "upload_mb_per_day: "),
    ],
)
def test_a_wrong_limit_is_explained(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        parse_limit(text)
    assert message in rejected.value.message


def test_own_limits_replace_others() -> None:
    own = ClientLimits().replaced_by({"pending_jobs": None, "open_sockets": 3})
    assert (own.pending_jobs, own.open_sockets, own.open_streams) == (None, 3, ClientLimits().open_streams)
    assert set(UNLIMITED.model_dump().values()) == {None}


def test_a_video_has_a_limited_number_of_pixels() -> None:
    params = make_params(width=640, height=320)
    UNLIMITED.replaced_by({"pixels_per_frame": 640 * 320}).check_video(params)
    with pytest.raises(
        InvalidRequest, match=r"640x320 = 204800 pixels, and the limit pixels_per_frame is 60000\."
    ) as no:
        UNLIMITED.replaced_by({"pixels_per_frame": 60_000}).check_video(params)
    assert (no.value.code, no.value.param) == ("resolution_too_large", "resolution")
    assert no.value.suggestions == ["Use 320x160 or smaller."]


def test_a_video_has_a_limited_number_of_frames_over_all_segments() -> None:
    parts = [{"prompt": "a", "num_frames": 9, "seed": 1}, {"prompt": "b", "num_frames": 9, "seed": 2}]
    long = make_params(num_frames=17, segments=parts)
    UNLIMITED.replaced_by({"frames_per_video": 18}).check_video(long)
    with pytest.raises(
        InvalidRequest, match=r"generates 18 frames, and the limit frames_per_video is 17\."
    ) as rejected:
        UNLIMITED.replaced_by({"frames_per_video": 17}).check_video(long)
    assert (rejected.value.code, rejected.value.param) == ("too_many_frames", "segments")
    with pytest.raises(InvalidRequest, match="generates 5 frames"):
        UNLIMITED.replaced_by({"frames_per_video": 4}).check_video(make_params(num_frames=5))
    joined = make_params(num_frames=13, joined_frames=9)
    UNLIMITED.replaced_by({"frames_per_video": 5}).check_video(joined)

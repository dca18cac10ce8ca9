"""Estimates of run times from the history."""

import pytest

from deployments.scheduling.costs import estimate_seconds
from tests.jobs import make_params


def test_a_model_without_history_has_no_estimate() -> None:
    assert estimate_seconds(make_params(), []) is None
    assert estimate_seconds(make_params(), [(make_params(model="tiny-i2v"), 3.0)]) is None


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 3.0),
        ({"steps": 4}, 6.0),
        ({"width": 128}, 6.0),
        ({"guidance_scale": 1.1}, 3.0),
        ({"guidance_scale": 1.0, "guidance_scale_2": 1.0}, 1.5),
        ({"guidance_scale": 0.5, "guidance_scale_2": None}, 1.5),
        ({"guidance_scale": 0.0, "guidance_scale_2": 0.0}, 1.5),
        ({"guidance_scale": 1.0, "guidance_scale_2": 3.0}, 2.25),
        ({"guidance_scale": 3.0, "guidance_scale_2": 1.0}, 3.0),
    ],
)
def test_the_estimate_grows_with_steps_size_and_guidance_passes(
    changes: dict[str, float | None], seconds: float
) -> None:
    assert estimate_seconds(make_params(**changes), [(make_params(), 3.0)]) == pytest.approx(seconds)


def test_jobs_of_the_same_size_come_first_and_an_outlier_does_not_count() -> None:
    history = [(make_params(width=128), 99.0), (make_params(), 3.0), (make_params(), 50.0), (make_params(), 3.2)]
    assert estimate_seconds(make_params(), history) == pytest.approx(3.2)

"""How long a job is thought to run."""

import pytest

from deployments.scheduling.costs import estimate_seconds
from tests.jobs import make_params


def test_nothing_is_known_of_a_model_that_has_made_nothing() -> None:
    assert estimate_seconds(make_params(), []) is None
    assert estimate_seconds(make_params(), [(make_params(model="tiny-i2v"), 3.0)]) is None


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [({}, 3.0), ({"steps": 4}, 6.0), ({"width": 128}, 6.0), ({"guidance_scale": 1.0}, 1.5)],
)
def test_it_grows_with_steps_size_and_passes(changes: dict[str, float], seconds: float) -> None:
    assert estimate_seconds(make_params(**changes), [(make_params(), 3.0)]) == pytest.approx(seconds)


def test_the_same_size_counts_before_another_one_and_an_exception_does_not_count() -> None:
    history = [(make_params(width=128), 99.0), (make_params(), 3.0), (make_params(), 50.0), (make_params(), 3.2)]
    assert estimate_seconds(make_params(), history) == pytest.approx(3.2)

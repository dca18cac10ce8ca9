"""What `args:` may hold."""

import pytest

from serve_app.settings import parse_settings
from wan22_bridge.errors import ConfigurationError


def test_more_gpus_for_a_video_than_a_replica_has_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"generator: .*parallel_degree 8 takes num_gpus of at least as many"):
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 8}})


def test_how_many_gpus_denoise_a_video_is_wished_for() -> None:
    assert parse_settings({"generator": {"num_gpus": 4}}).generator.plan_constraints().parallel_degree is None
    assert (
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 2}})
        .generator.plan_constraints()
        .parallel_degree
        == 2
    )

"""Settings are validated, and converted into constraints on plans."""

import pytest

from serve_app.settings import parse_settings
from wan22_bridge.errors import ConfigurationError


def test_parallel_degree_beyond_num_gpus_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"generator: .*parallel_degree 8 needs num_gpus of at least 8, got 4"):
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 8}})


def test_parallel_degree_is_a_constraint_on_plans() -> None:
    assert parse_settings({"generator": {"num_gpus": 4}}).generator.plan_constraints().parallel_degree is None
    assert (
        parse_settings({"generator": {"num_gpus": 4, "parallel_degree": 2}})
        .generator.plan_constraints()
        .parallel_degree
        == 2
    )

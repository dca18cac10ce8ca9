"""A small job for tests, and the end of its lease."""

from typing import Any

from sqlalchemy import update

from deployments.jobs.job import NewJob
from deployments.jobs.schema import jobs
from deployments.jobs.store import JobStore
from wan22_bridge.types import GenerationParams, ModelType

_PARAMS = GenerationParams(
    model="tiny-t2v",
    model_type=ModelType.T2V,
    prompt="a red circle moving right",
    negative_prompt="",
    width=64,
    height=64,
    num_frames=5,
    fps=16,
    steps=2,
    guidance_scale=4.0,
    guidance_scale_2=3.0,
    flow_shift=12.0,
    seed=7,
)


def make_params(**changes: Any) -> GenerationParams:
    """Makes the parameters of a small text-to-video job.

    Args:
        **changes: fields that differ from the usual ones, in the form of `GenerationParams.to_dict`.
    """
    return GenerationParams.from_dict(_PARAMS.to_dict() | changes)


def make_job(**changes: Any) -> NewJob:
    """Makes a job with the usual parameters.

    Args:
        **changes: fields of `NewJob` that differ from the usual ones.
    """
    return NewJob(**({"params": make_params()} | changes))


def expire_leases(store: JobStore) -> None:
    """Lets the leases of all running jobs expire, as if their dispatcher had died a while ago."""
    with store.database.writing() as connection:
        connection.execute(update(jobs).where(jobs.c.lease_expires_at.is_not(None)).values(lease_expires_at=0.0))

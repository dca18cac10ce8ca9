"""Body of the estimate of a job."""

from pydantic import BaseModel, ConfigDict


class Estimate(BaseModel):
    """The time and memory that a job would take, and whether the job fits the service's hardware."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    num_outputs: int
    """Number of videos that the request makes, each in a job of its own."""
    estimated_seconds: float | None
    """Time to generate the video, without waiting in the queue. Several videos are counted one after the other. Null
    while no job of the model has run."""
    queue_position: int
    """Position that the first job would get among the pending jobs; 1 is the next job."""
    wait_seconds: float | None
    """Time until the first job would start. Null if a job before it has no estimate, or if the queue is paused."""
    peak_memory_mb: float | None
    """Estimated peak of the GPU's memory, or of the RAM on a CPU, in megabytes of 10^6 bytes. Null if the hardware is
    not known or nothing fits."""
    plan: list[str]
    """Optimizations with which the video fits, in words. Empty if none is needed, and if no plan is known."""
    fits: bool | None
    """Whether the video fits the hardware of any generator. Null while no generator has reported its hardware."""
    reasons: list[str]
    """Reasons for the plan's choices, or the reason why the video does not fit."""
    suggestions: list[str]
    """Changes with which the video would fit: first a lower resolution, then fewer frames."""

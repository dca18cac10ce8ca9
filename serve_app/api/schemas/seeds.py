"""The number of videos that a request makes, and their seeds."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.options import MAX_SEED

MAX_OUTPUTS = 8
"""Maximum number of videos that one request makes."""


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number, got {str(value).lower()}")
    return value


def _different(value: list[int]) -> list[int]:
    if repeated := {seed for seed in value if value.count(seed) > 1}:
        raise ValueError(f"expected each seed once, got {min(repeated)} more than once")
    return value


# The limits come before the validators: pydantic puts only those into the JSON schema.
NumOutputs = Annotated[int, Field(ge=1, le=MAX_OUTPUTS), BeforeValidator(_not_boolean)]
"""Number of videos of a request."""
Seeds = Annotated[
    list[Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_not_boolean)]],
    Field(max_length=MAX_OUTPUTS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_different),
]
"""Different seeds, one for each video of a request."""


def choose_seeds(
    *, seed: int | None, seeds: Sequence[int], num_outputs: int | None, segment_seeds: Sequence[int | None]
) -> list[int | None]:
    """Returns the seed of each video of a request, None or -1 for one that is drawn.

    Args:
        seed: the request's field, from which the seeds of several videos count up.
        seeds: the request's field, which may be empty.
        num_outputs: the request's field; None if the client did not send it.
        segment_seeds: seeds of the request's segments.

    Raises:
        InvalidRequest: the fields contradict each other, or the seeds would be too large.
    """
    if seeds and seed is not None:
        raise InvalidRequest(
            f"seeds and seed can't be combined: seed is {seed}, and seeds has {len(seeds)}.",
            code="contradictory_fields",
            param="seeds",
            suggestions=["Send either seeds, or seed with num_outputs."],
        )
    if seeds and num_outputs not in (None, len(seeds)):
        raise InvalidRequest(
            f"num_outputs is {num_outputs}, but seeds has {len(seeds)}: expected the same number.",
            code="contradictory_fields",
            param="num_outputs",
            suggestions=["Leave num_outputs out: there is one video for each of the seeds."],
        )
    count = len(seeds) or num_outputs or 1
    if count > 1 and segment_seeds and all(each is not None and each >= 0 for each in segment_seeds):
        raise InvalidRequest(
            f"segments all have seeds of their own, so that the {count} videos would be the same.",
            code="contradictory_fields",
            param="segments",
            suggestions=["Leave out the seed of a segment, or ask for one video."],
        )
    if seeds:
        return list(seeds)
    if seed is None or seed < 0:
        return [seed] * count
    largest = MAX_SEED - count + 1
    if seed > largest:
        raise InvalidRequest(
            f"seed is {seed}: expected at most {largest}, because {count} seeds count up from it.",
            code="seed_too_large",
            param="seed",
            suggestions=["Use a smaller seed, or send seeds."],
        )
    return [seed + index for index in range(count)]

"""The choice of the complete segments that a claim takes over from earlier claims of its job."""

from collections.abc import Collection
from itertools import count


def choose_segments(found: Collection[tuple[int, int]], *, before: int) -> dict[int, int]:
    """Chooses the claim from which each segment is taken over.

    A claim that has lost its lease may still write segments for a while. So each claim writes to a folder of its own,
    and a segment is never taken from an older claim than the segment before it, whose last frame it continues.

    Args:
        found: the fencing token and the index of each complete segment.
        before: fencing token of the claim that takes the segments over.

    Returns:
        Fencing tokens by index, from the first segment up to the first one that no claim has completed.
    """
    chosen: dict[int, int] = {}
    oldest = 0
    for index in count():
        tokens = [token for token, found_index in found if found_index == index and oldest <= token < before]
        if not tokens:
            break
        oldest = chosen[index] = max(tokens)
    return chosen

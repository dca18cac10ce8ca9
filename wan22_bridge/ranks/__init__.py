"""Several processes, each with a GPU, that denoise one video together.

The one that generates is rank 0 and leads (`leader.py`); the others follow (`follower.py`). All run the same loop in
step, from the same inputs; what is divided (`division.py`) is each forward pass of an expert.
"""

from wan22_bridge.ranks.division import Division
from wan22_bridge.ranks.leader import Ranks

__all__ = ["Division", "Ranks"]

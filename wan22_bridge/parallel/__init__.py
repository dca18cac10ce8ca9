"""Several processes, each with a GPU, that denoise one video together.

Rank 0 generates and leads (`leader.py`); the other ranks follow (`wan22_bridge.follower`). All ranks run the same loop
in step, from the same inputs. Each forward pass of an expert is divided among them (`division.py`).
"""

from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.leader import Ranks

__all__ = ["Division", "Ranks"]

"""A group of processes, each with a GPU, that denoise one video together.

Rank 0 generates and leads the group (`leader.py`). The other ranks are followers (`wan22_bridge.follower`). All ranks
run the same denoising loop in step, from the same inputs, and divide each forward pass of an expert (`division.py`).
"""

from wan22_bridge.parallel.division import Division
from wan22_bridge.parallel.leader import Ranks

__all__ = ["Division", "Ranks"]

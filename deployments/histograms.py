"""Bucket boundaries that the histogram metrics share."""

SECONDS_BUCKETS = [0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200]
"""Boundaries in seconds. Ray Serve's own buckets end at 600 s, below the run time of an A14B job."""

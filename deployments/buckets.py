"""Histogram buckets that the metrics share."""

SECONDS_BUCKETS = [0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200]
"""In seconds. Ray Serve's own buckets end where an A14B job begins."""

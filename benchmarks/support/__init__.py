"""Shared parts of the benchmarks: reporting, running services, and the baselines of comparisons."""

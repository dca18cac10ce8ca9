"""Benchmarks. Run one with `python benchmarks/NAME.py [--quick] [--json FILE]`."""

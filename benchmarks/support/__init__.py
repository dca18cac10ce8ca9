"""What benchmarks share: reporting, and the other sides of comparisons."""

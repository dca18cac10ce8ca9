"""The `wan22` command line."""

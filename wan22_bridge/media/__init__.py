"""Checks, reads and writes image and video files."""

"""Image and video files: read, checked and written. Imports no torch."""

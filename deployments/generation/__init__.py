"""The generator: runs claimed jobs on a device."""

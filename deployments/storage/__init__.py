"""Storage of inputs and outputs, in a folder or in a bucket."""

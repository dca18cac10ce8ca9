"""Storage of job inputs and outputs, in a folder or in a bucket."""

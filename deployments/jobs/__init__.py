"""The durable job queue. Imports no Ray and no web framework."""

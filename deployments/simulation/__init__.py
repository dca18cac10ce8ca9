"""The simulator: replays traces of jobs in virtual time through the scheduler of the service."""

"""Traces of jobs in virtual time, scheduled by the code that schedules real ones."""

"""Scheduling: which job runs next, and on which slot. Pure functions of their arguments."""

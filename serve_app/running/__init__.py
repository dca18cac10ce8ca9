"""`wan22 serve`: checks the config and the machine, runs the service, and stops everything it started."""

"""Training of the built-in tiny models. The service does not import this package."""

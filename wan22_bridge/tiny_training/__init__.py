"""Training of the built-in tiny models. The service imports none of it."""

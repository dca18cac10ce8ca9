"""Memory planning: chooses a plan that fits the hardware, the model and the request."""

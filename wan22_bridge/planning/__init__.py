"""Memory planning: from the hardware, the model and the request to a plan that fits."""

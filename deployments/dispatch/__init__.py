"""The dispatcher: claims jobs from the store and relays each one between its generator and the store."""

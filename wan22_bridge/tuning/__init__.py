"""Measurements of a machine or a model that later runs use: calibration, trials, preview factors."""

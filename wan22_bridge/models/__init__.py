"""A model's files and weights: loading, quantization, residence, and LoRAs."""

"""A model's files and weights: found, loaded, quantized, offloaded and combined with LoRAs."""

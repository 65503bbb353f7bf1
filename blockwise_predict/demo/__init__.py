"""The demonstration: a phantom volume, a small trained network, a picture."""

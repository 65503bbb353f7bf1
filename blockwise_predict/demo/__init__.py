"""The demo: a synthetic phantom, a network trained on it, and a picture of the result."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""Folder with the network: weights.safetensors and architecture.yaml."""

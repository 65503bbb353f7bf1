"""The demonstration's phantom, the network shipped for it, and its picture."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""Folder of the network: weights.safetensors and architecture.yaml."""

"""blockwise-predict: run a trained U-Net over volumes too large for one machine."""

from importlib.metadata import version

__version__ = version("blockwise-predict")
__all__ = ["__version__"]

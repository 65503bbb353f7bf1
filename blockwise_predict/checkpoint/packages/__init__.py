"""The containers in which people share networks: folders and archives that describe their files."""

from blockwise_predict.checkpoint.packages.find import find_package
from blockwise_predict.checkpoint.packages.open import open_package
from blockwise_predict.checkpoint.packages.package import Package

__all__ = ["Package", "find_package", "open_package"]

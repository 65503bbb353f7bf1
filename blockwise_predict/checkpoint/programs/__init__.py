"""Networks in files that hold their program, besides their weights."""

from blockwise_predict.checkpoint.programs.factory import KIND as FACTORY
from blockwise_predict.checkpoint.programs.model import OpaqueModel
from blockwise_predict.checkpoint.programs.open import find_program, open_program

__all__ = ["FACTORY", "OpaqueModel", "find_program", "open_program"]

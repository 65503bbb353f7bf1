"""U-Nets recognised in TorchScript and torch.export files, which are read and not run."""

from blockwise_predict.checkpoint.recognition.recognise import Recognised, recognise_file
from blockwise_predict.checkpoint.recognition.records import is_program

__all__ = ["Recognised", "is_program", "recognise_file"]

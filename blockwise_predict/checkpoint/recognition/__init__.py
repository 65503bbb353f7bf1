"""U-Nets recognised in TorchScript and torch.export files, which are read and not run."""

from blockwise_predict.checkpoint.recognition.recognise import Recognised, recognise_file

__all__ = ["Recognised", "recognise_file"]

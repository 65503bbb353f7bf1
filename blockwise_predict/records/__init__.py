"""What a run writes down: its directory, the ledger of its blocks, its events, its lock."""

from blockwise_predict.records.place import default_run_dir
from blockwise_predict.records.rundir import RunDir

__all__ = ["RunDir", "default_run_dir"]

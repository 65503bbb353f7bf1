"""What a run writes down.

rundir         the run directory and its records; location is where it is by default, find opens the
               one that made an output
ledger         what has become of each block; room checks that it fits
pyramid        the records of the pyramids of a run's arrays
events         what happened; departures are the reasons why workers left, workerlogs a summary
failures       the last error of each block that was given up
lock           one scheduler at a time
address        where the running scheduler listens
identity       what must not change when a run is resumed
provenance     how an output was made, written into its attributes; output_spec is the array itself
marker         which folders and files belong to a run, and may be deleted
files, atomic  opening, reading and writing records safely
"""

from blockwise_predict.records.location import default_run_dir
from blockwise_predict.records.rundir import RunDir

__all__ = ["RunDir", "default_run_dir"]

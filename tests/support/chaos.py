"""A real run that is disturbed hundreds of times, and must end as if nothing had happened.

    python tests/support/chaos.py --seed 1 --seed 2 --faults 100

A tiny network predicts a volume in some 300 blocks with several worker processes. From a seed,
workers are killed, stopped for good and for a while, and cut off, one or all, with and without a
word (they connect through a cable of this program); messages are garbled; blocks raise errors, run
out of memory, or hang; rubbish is put where temporary files stand; records are cut short; finished
shards are damaged; the disk is filled (a small tmpfs, where this user may mount one); and the
scheduler is killed or interrupted and started again. When all blocks are done, another round
begins, until there were enough faults.

At each round's end: verify finds nothing (after what was damaged on purpose was repaired), every
shard has the bytes that an undisturbed run wrote, no process is left over, and no lock is held.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.chaos_job import BLOCKS, DisturbedJob
from tests.support.disks import mounted
from tests.support.faults import Faults
from tests.support.runs import blocks_done

TMPFS_SIZE = "64m"


def run_to_the_end(job: DisturbedJob, faults: Faults, enough: int, interval: float) -> None:
    """Run a job to its end, and disturb it while there were not enough faults."""
    while True:
        if not job.running:
            if job.exit_code == 0 and blocks_done(job.run_dir) == np.prod(BLOCKS):
                return
            job.start()
        if faults.done.total() < enough:
            faults.disturb(interval)
        else:
            time.sleep(0.2)


def run_chaos(seed: int, faults: int, workers: int, interval: float, pause: float) -> Counter[str]:
    """Disturb a job from a seed until there were so many faults; returns their numbers."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with mounted(folder / "disk", TMPFS_SIZE):
            job = DisturbedJob(folder, seed, workers, pause)
            disturbances = Faults(job, seed)
            try:
                expected = job.undisturbed()
                rounds = 0
                while disturbances.done.total() < faults:
                    shutil.rmtree(Path(job.output).parent, ignore_errors=True)
                    shutil.rmtree(job.run_dir, ignore_errors=True)
                    run_to_the_end(job, disturbances, faults, interval)
                    job.settle()
                    job.check(expected)
                    rounds += 1
                click.echo(
                    f"seed {seed}: {disturbances.done.total()} faults in {rounds} rounds of "
                    f"{int(np.prod(BLOCKS))} blocks, {job.starts} starts of the scheduler; "
                    f"{dict(disturbances.done)}"
                )
                return disturbances.done
            except BaseException:
                log = folder / "scheduler.log"
                click.echo(log.read_text()[-8000:] if log.exists() else "", err=True)
                for process in job.own_processes():
                    process.kill()
                raise


@click.command(help=__doc__)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3, 4, 5))
@click.option("--faults", default=100, show_default=True, help="For each seed.")
@click.option("--workers", default=3, show_default=True)
@click.option("--interval", default=1.0, show_default=True, help="Mean seconds between faults.")
@click.option("--pause", default=0.3, show_default=True, help="Seconds that a block takes.")
def main(seeds: tuple[int, ...], faults: int, workers: int, interval: float, pause: float) -> None:
    begin = time.monotonic()
    total: Counter[str] = Counter()
    for seed in seeds:
        total += run_chaos(seed, faults, workers, interval, pause)
    minutes = (time.monotonic() - begin) / 60
    click.echo(
        f"{total.total()} faults over {len(seeds)} seeds in {minutes:.0f} min: {dict(total)}"
    )


if __name__ == "__main__":
    main()

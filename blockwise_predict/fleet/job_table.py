"""The jobs of a run, as the queue last reported them. Bookkeeping only: no command is run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from blockwise_predict.fleet.queue import Job, State
from blockwise_predict.scheduling.members import Membership

# Time within which a submitted job must show up in the queue's answers (seconds).
APPEARANCE_S = 60.0
# Time for a job to end. One that takes longer hangs, as its node does, and counts as ended
# (seconds).
END_TIMEOUT_S = 60.0
# Time for a job to end after its worker has left (seconds).
EXIT_GRACE_S = 10.0
ACTIVE = (State.WAITING, State.RUNNING)


@dataclass
class TrackedJob:
    """A job that has not ended, as the queue last reported it.

    `since` is when it was submitted, or last known to wait: a worker that has joined since then
    belongs to this start of the job. `running_since` and `ending_since` are when it was first seen
    in that state; a job that `hangs` while it ends counts as ended. An `unwanted` job is to end and
    counts no longer: it does so by itself soon after its worker has left (first seen at
    `left_since`), or is cancelled at once if its worker was `evicted`.
    """

    job: Job
    since: float
    seen: bool = False
    running_since: float | None = None
    ending_since: float | None = None
    hangs: bool = False
    unwanted: bool = False
    left_since: float | None = None
    evicted: bool = False

    def joined(self, membership: Membership) -> bool:
        """Whether its worker has joined since the job was submitted, or last waited."""
        return membership.job_joined(self.job.key, self.since)


class JobTable:
    """All jobs of a run that have not ended, by key. `begun` is when the run began."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._jobs: dict[str, TrackedJob] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    def __getitem__(self, key: str) -> TrackedJob:
        return self._jobs[key]

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> bool:
        """Whether a job runs, wanted or not."""
        return any(tracked.job.state is State.RUNNING for tracked in self._jobs.values())

    def wanted(self) -> Iterator[TrackedJob]:
        """Jobs that are to go on."""
        return (tracked for tracked in list(self._jobs.values()) if not tracked.unwanted)

    def _unwanted(self) -> Iterator[TrackedJob]:
        """Jobs that are to end, but still wait or run."""
        jobs = list(self._jobs.values())
        return (tracked for tracked in jobs if tracked.unwanted and tracked.job.state in ACTIVE)

    def leaving(self, membership: Membership) -> tuple[int, ...]:
        """The numbers of workers that are to finish the blocks they hold, and end."""
        numbers = membership.numbers
        keys = (tracked.job.key for tracked in self._unwanted())
        return tuple(numbers[key] for key in keys if key in numbers)

    def note_departures(self, membership: Membership, now: float) -> None:
        """Note since when the workers of unwanted jobs are gone."""
        for tracked in self._unwanted():
            if tracked.job.key not in membership.numbers or tracked.evicted:
                tracked.left_since = tracked.left_since or now

    def to_cancel(self, membership: Membership, now: float) -> tuple[str, ...]:
        """The keys of unwanted jobs that do not end by themselves with their workers."""
        keys = []
        for tracked in self._unwanted():
            if tracked.evicted:
                keys.append(tracked.job.key)
            elif tracked.job.key not in membership.numbers:
                absent = now - (tracked.left_since or now)
                if not tracked.joined(membership) or absent >= EXIT_GRACE_S:
                    keys.append(tracked.job.key)
        return tuple(keys)

    def starting(self, membership: Membership) -> bool:
        """Whether a job runs whose worker may be about to join."""
        running = (tracked for tracked in self.wanted() if tracked.job.state is State.RUNNING)
        return any(not tracked.joined(membership) for tracked in running)

    def add(self, keys: Collection[str], now: float) -> None:
        """Add jobs that were just submitted."""
        for key in keys:
            self._jobs[key] = TrackedJob(Job(key, State.WAITING, "submitted"), now)

    def update(self, jobs: Collection[Job], asked: float) -> list[TrackedJob]:
        """Take in the queue's answer, `asked` for at that time; removes and returns ended jobs."""
        for job in jobs:
            if job.state in ACTIVE:
                # This may be one that had ended, and was requeued.
                self._see(job, asked)
        reported = {job.key: job for job in jobs}
        ended = []
        for key, tracked in list(self._jobs.items()):
            tracked.job = self._updated(tracked, reported.get(key), asked)
            if tracked.job.state is State.ENDED:
                ended.append(self._jobs.pop(key))
        return ended

    def _see(self, job: Job, asked: float) -> None:
        # An unknown job was left by the last run; its worker may have joined already.
        tracked = self._jobs.setdefault(job.key, TrackedJob(job, self._begun))
        tracked.job, tracked.seen, tracked.ending_since = job, True, None
        if job.state is State.RUNNING:
            tracked.running_since = tracked.running_since or asked
        else:
            tracked.running_since, tracked.since = None, asked

    def _updated(self, tracked: TrackedJob, reported: Job | None, now: float) -> Job:
        if reported is None:
            if not tracked.seen and now - tracked.since < APPEARANCE_S:
                return tracked.job
            return replace(tracked.job, state=State.ENDED, what="gone from the queue")
        if reported.state is State.ENDING:
            # How it ends is only known once it has ended.
            tracked.ending_since = tracked.ending_since or now
            if now - tracked.ending_since > END_TIMEOUT_S:
                tracked.hangs = True
                return replace(reported, state=State.ENDED, blameless=True)
        return reported

    def surplus(self, size: int, present: Collection[str]) -> list[TrackedJob]:
        """Wanted jobs in excess of `size`, those of least value first: waiting jobs, then those
        whose workers are not `present` yet."""

        def value(tracked: TrackedJob) -> int:
            if tracked.job.key in present:
                return 2
            return 1 if tracked.job.state is State.RUNNING else 0

        wanted = list(self.wanted())
        return sorted(wanted, key=value)[: max(0, len(wanted) - size)]

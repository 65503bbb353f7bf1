"""The jobs of a run, as the queue tells of them: bookkeeping, nothing is asked or cancelled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from blockwise_predict.fleet.queue import Job, State
from blockwise_predict.scheduling.members import Attendance

# Time for which the queue's answers may lack a job that was submitted (seconds).
UNSEEN_S = 60.0
# Time for a job to end; one that takes longer hangs, as its node does, and counts as ended
# (seconds).
HANGS_S = 60.0
# Time for a job to end after its worker has left (seconds).
LEAVE_S = 10.0
ACTIVE = (State.WAITING, State.RUNNING)


@dataclass
class Place:
    """A job that has not ended, as the queue said last.

    `since` is when it was submitted, or when it was last known to wait: a worker that has joined
    since then is of this start. `running_since` and `ending_since` are when it was first seen so;
    one that `hangs` while it ends counts as ended. An `unwanted` one is to end, and counts no more:
    by itself, soon after its worker was first seen to have left (`left_since`), or at once if that
    is `lost`.
    """

    job: Job
    since: float
    seen: bool = False
    running_since: float | None = None
    ending_since: float | None = None
    hangs: bool = False
    unwanted: bool = False
    left_since: float | None = None
    lost: bool = False

    def joined(self, attendance: Attendance) -> bool:
        """Whether its worker has joined since it was submitted, or waited."""
        return attendance.job_joined(self.job.key, self.since)


class Places:
    """All jobs of a run that have not ended, by key. `begun` is when the run began."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._places: dict[str, Place] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Place:
        return self._places[key]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def running(self) -> bool:
        """Whether one runs, wanted or not."""
        return any(place.job.state is State.RUNNING for place in self._places.values())

    def wanted(self) -> Iterator[Place]:
        """Those that are not to end."""
        return (place for place in list(self._places.values()) if not place.unwanted)

    def _unwanted(self) -> Iterator[Place]:
        """Those that are to end, and wait or run."""
        places = list(self._places.values())
        return (place for place in places if place.unwanted and place.job.state in ACTIVE)

    def leaving(self, attendance: Attendance) -> tuple[int, ...]:
        """The numbers of workers that are to end by themselves, with what they hold done."""
        numbers = attendance.numbers
        keys = (place.job.key for place in self._unwanted())
        return tuple(numbers[key] for key in keys if key in numbers)

    def to_cancel(self, attendance: Attendance, now: float) -> tuple[str, ...]:
        """The keys of those that are to end, and do not by themselves with their workers."""
        keys = []
        for place in self._unwanted():
            if place.job.key in attendance.numbers and not place.lost:
                continue
            place.left_since = place.left_since or now
            ends = place.joined(attendance) and now - place.left_since < LEAVE_S
            if place.lost or not ends:
                keys.append(place.job.key)
        return tuple(keys)

    def starting(self, attendance: Attendance) -> bool:
        """Whether one runs whose worker may be about to join."""
        running = (place for place in self.wanted() if place.job.state is State.RUNNING)
        return any(not place.joined(attendance) for place in running)

    def add(self, keys: Collection[str], now: float) -> None:
        """Jobs were submitted."""
        for key in keys:
            self._places[key] = Place(Job(key, State.WAITING, "submitted"), now)

    def update(self, jobs: Collection[Job], asked: float) -> list[Place]:
        """Take in what the queue said when it was `asked`; returns those that have ended since."""
        for job in jobs:
            if job.state in ACTIVE:
                # Also one that had ended, and was put into the queue again.
                self._see(job, asked)
        said = {job.key: job for job in jobs}
        ended = []
        for key, place in list(self._places.items()):
            place.job = self._as_of_now(place, said.get(key), asked)
            if place.job.state is State.ENDED:
                ended.append(self._places.pop(key))
        return ended

    def _see(self, job: Job, asked: float) -> None:
        # One that is not known was left by the last run; its worker may have joined already.
        place = self._places.setdefault(job.key, Place(job, self._begun))
        place.job, place.seen, place.ending_since = job, True, None
        if job.state is State.RUNNING:
            place.running_since = place.running_since or asked
        else:
            place.running_since, place.since = None, asked

    def _as_of_now(self, place: Place, said: Job | None, now: float) -> Job:
        if said is None:
            if not place.seen and now - place.since < UNSEEN_S:
                return place.job
            return replace(place.job, state=State.ENDED, what="gone from the queue")
        if said.state is State.ENDING:
            # How it ends is known only when it has.
            place.ending_since = place.ending_since or now
            if now - place.ending_since > HANGS_S:
                place.hangs = True
                return replace(said, state=State.ENDED, blameless=True)
        return said

    def surplus(self, size: int, present: Collection[str]) -> list[Place]:
        """Wanted ones beyond a number, the least worth first: those that wait, then those whose
        workers are not `present` yet."""

        def worth(place: Place) -> int:
            if place.job.key in present:
                return 2
            return 1 if place.job.state is State.RUNNING else 0

        wanted = list(self.wanted())
        return sorted(wanted, key=worth)[: max(0, len(wanted) - size)]

"""The jobs of a run, as the queue tells of them: bookkeeping, nothing is asked or cancelled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from blockwise_predict.fleet.queue import Job, State

# A job that was submitted may be missing from the queue's answers for so long (seconds).
UNSEEN_S = 60.0
# One that takes longer to end hangs, as its node does, and counts as ended (seconds).
HANGS_S = 60.0
ACTIVE = (State.WAITING, State.RUNNING)


@dataclass
class Place:
    """A job that has not ended: what the queue said last, and when it was submitted, was first seen
    to run, and to end. `unwanted`: it is to end, and counts no more."""

    job: Job
    submitted: float
    seen: bool = False
    running_since: float | None = None
    ending_since: float | None = None
    unwanted: bool = False


class Places:
    """All jobs of a run that have not ended, by key."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Place:
        return self._places[key]

    def __len__(self) -> int:
        return len(self._places)

    def wanted(self) -> Iterator[Place]:
        """Those that are not to end."""
        return (place for place in list(self._places.values()) if not place.unwanted)

    def unwanted(self) -> list[str]:
        """Keys of those that are to end, and wait or run."""
        places = self._places.items()
        return [key for key, place in places if place.unwanted and place.job.state in ACTIVE]

    def add(self, keys: Collection[str], now: float) -> None:
        """Jobs were submitted."""
        for key in keys:
            self._places[key] = Place(Job(key, State.WAITING, "submitted"), now)

    def update(self, jobs: Collection[Job], now: float) -> list[Job]:
        """Take in what the queue says now; returns the jobs that have ended and were wanted."""
        for job in jobs:
            if job.state in ACTIVE:
                # Also one that had ended, and was put into the queue again.
                self._see(job, now)
        said = {job.key: job for job in jobs}
        ended = []
        for key, place in list(self._places.items()):
            job = self._as_of_now(place, said.get(key), now)
            if job.state is State.ENDED:
                del self._places[key]
                if not place.unwanted:
                    ended.append(job)
        return ended

    def _see(self, job: Job, now: float) -> None:
        place = self._places.setdefault(job.key, Place(job, now))
        place.job, place.seen, place.ending_since = job, True, None
        if job.state is State.RUNNING:
            place.running_since = place.running_since or now
        else:
            place.running_since = None

    def _as_of_now(self, place: Place, said: Job | None, now: float) -> Job:
        if said is None:
            if not place.seen and now - place.submitted < UNSEEN_S:
                return place.job
            return replace(place.job, state=State.ENDED, what="gone from the queue")
        if said.state is State.ENDING:
            # How it ends is known only when it has.
            place.ending_since = place.ending_since or now
            if now - place.ending_since > HANGS_S:
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

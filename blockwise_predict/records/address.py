"""Where a run's workers join it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """Where a run's scheduler listens, and the key that admits workers.

    `host` is the name of its machine, `here` the address at which that reaches it, `hosts` those at
    which others do (none if it listens on its own machine only), `key` the PEM of its key.
    """

    host: str
    here: str
    hosts: tuple[str, ...]
    port: int
    key: str

    def reachable_at(self, host: str) -> tuple[str, ...]:
        """What to try from the machine named `host`, in this order."""
        if not self.hosts:
            # Whatever that machine is called now.
            return (self.here,)
        return (self.here, *self.hosts) if host == self.host else self.hosts

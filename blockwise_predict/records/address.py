"""Where a run's scheduler listens for workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """Where a run's scheduler listens, and the key that admits workers.

    `host` is the name of its machine and `here` the address at which that machine reaches it;
    `hosts` are the addresses at which others do (none if it listens on loopback only). `key` is the
    PEM of its key and certificate.
    """

    host: str
    here: str
    hosts: tuple[str, ...]
    port: int
    key: str

    def reachable_at(self, host: str) -> tuple[str, ...]:
        """The addresses to try from the machine named `host`, in this order."""
        if not self.hosts:
            # Even if the machine has been renamed since.
            return (self.here,)
        return (self.here, *self.hosts) if host == self.host else self.hosts

"""Prices of workers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blockwise_predict.errors import ConfigError

_PRICE = re.compile(r"(?P<amount>\d+(\.\d*)?|\.\d+) ?(?P<currency>[^\W\d_]{1,8}|[$€£¥])?")


@dataclass(frozen=True)
class Price:
    """What a worker costs per hour; `currency` is "" if none was given."""

    amount: float
    currency: str = ""

    @classmethod
    def parse(cls, text: str) -> Price:
        """Read `2.50` or `2.50 USD`. Raises ConfigError."""
        found = _PRICE.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                f"--price {text!r} is no price of a worker for an hour: give an amount, with a "
                'currency if you like, for example 2.50 or "2.50 USD".'
            )
        return cls(float(found["amount"]), found["currency"] or "")

    def text(self, hours: float) -> str:
        """What so many hours of one worker cost: `1.25 USD`."""
        return f"{self.amount * hours:,.2f} {self.currency}".rstrip()

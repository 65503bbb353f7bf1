"""What messages show of a value."""

from __future__ import annotations

import pytest

from blockwise_predict.errors import shown

pytestmark = pytest.mark.usefixtures("bounded")


def test_what_is_shown_is_short() -> None:
    assert len(shown(["x" * 10_000] * 10_000)) < 1500
    assert shown("\x1b[31m") == repr("\x1b[31m")
    assert shown([1, (2, 3)]) == "[1, (2, 3)]"

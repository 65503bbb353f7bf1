"""Files and values that must be refused, and the message of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blockwise_predict.errors import InputError


def refused(kind: type[InputError], action: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 1500
    return str(caught.value)

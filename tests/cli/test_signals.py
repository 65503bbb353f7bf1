"""What signals do while a command can be stopped, and after."""

from __future__ import annotations

import signal

import pytest

from blockwise_predict.cli.running import stopped_by_signals
from blockwise_predict.run.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGHUP])
def test_signals_stop_a_run_and_then_do_what_they_did(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), StopRequest()
    with stopped_by_signals(stop):
        signal.raise_signal(number)
    assert stop.times == 1
    assert signal.getsignal(number) is before

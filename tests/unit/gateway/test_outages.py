"""How long engines were away: by calls that failed, and never longer because of what an agent does not do."""

from envfarm.gateway.outages import LONGEST_WAIT_S, Outages


def test_calls_that_fail_at_once_count_once() -> None:
    outages = Outages()
    outages.failed(0.0, 10.0, alone=False)
    outages.failed(5.0, 12.0, alone=False)
    outages.failed(1.0, 12.0, alone=False)
    assert outages.seconds(100.0) == 12.0


def test_an_agent_that_does_not_ask_again_gets_no_more_than_a_wait() -> None:
    outages = Outages()
    outages.failed(0.0, 1.0, alone=True)
    assert outages.seconds(1e6) == 1.0 + LONGEST_WAIT_S
    outages.asked(1e6)
    assert outages.seconds(2e6) == 1.0 + LONGEST_WAIT_S


def test_while_another_call_runs_nobody_waits() -> None:
    outages = Outages()
    outages.failed(0.0, 1.0, alone=True)
    outages.asked(4.0)
    outages.asked(4.0)
    outages.failed(4.0, 6.0, alone=False)
    assert outages.seconds(50.0) == 6.0
    outages.failed(4.0, 9.0, alone=True)
    assert outages.seconds(11.0) == 11.0

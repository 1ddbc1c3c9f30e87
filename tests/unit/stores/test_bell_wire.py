"""Rings between processes: bounded payloads. That they arrive is seen in tests of hosts in other processes."""

import json

from envfarm.stores.bell_wire import MOST_PAYLOADS, PAYLOAD_BYTES, payloads


def test_few_names_are_one_payload_and_many_are_several_bounded_ones() -> None:
    assert [json.loads(p) for p in payloads("me", ["queue", "ä"])] == [["me", ["queue", "ä"]]]
    names = [f"episode-{n}-{'x' * 100}" for n in range(300)]
    sent = list(payloads("me", names))
    assert 1 < len(sent) <= MOST_PAYLOADS
    assert all(len(p.encode()) < PAYLOAD_BYTES for p in sent)
    assert [name for p in sent for name in json.loads(p)[1]] == names


def test_what_would_not_fit_is_all_bells() -> None:
    assert json.loads(list(payloads("me", [f"{n}{'x' * 1000}" for n in range(100)]))[-1]) == ["me", None]
    assert [json.loads(p) for p in payloads("me", ["x" * 10_000])] == [["me", None]]

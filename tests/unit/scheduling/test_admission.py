from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.core.ids import EpisodeId
from envfarm.scheduling.admission import Amount, Bounds, Candidate, Pressure, Turn, admit

WHOLE = Amount(memory_mib=1000, disk_mib=1000, cores=10, episodes=10)


def need(memory: float = 100) -> Amount:
    return Amount(memory_mib=memory, disk_mib=1, cores=0.1)


def candidates(tenant: str, many: int, *, policy: str = "p", memory: float = 100) -> list[Candidate]:
    return [Candidate(episode=EpisodeId(f"{tenant}.{policy}.{n}"), tenant=tenant, policy=policy, need=need(memory)) for n in range(many)]


def test_what_fits_is_granted_oldest_first() -> None:
    decision = admit(candidates("a", 3), WHOLE, WHOLE, Bounds(), Turn())
    assert decision.granted == ("a.p.0", "a.p.1", "a.p.2")
    assert decision.held == {}


def test_each_thing_bounds_and_is_named() -> None:
    for name in ("memory_mib", "disk_mib", "cores", "episodes"):
        left = WHOLE.model_copy(update={name: 0})
        decision = admit(candidates("a", 1), WHOLE, left, Bounds(), Turn())
        assert (decision.granted, decision.held) == ((), {"a.p.0": name})


def test_what_never_fits_is_told_and_blocks_nobody() -> None:
    decision = admit([*candidates("a", 1, memory=2000), *candidates("b", 1)], WHOLE, WHOLE, Bounds(), Turn())
    assert decision.too_large == ("a.p.0",)
    assert decision.granted == ("b.p.0",)


def test_a_large_one_is_waited_for_and_small_ones_do_not_slip_past_it() -> None:
    left = WHOLE.model_copy(update={"memory_mib": 400})
    decision = admit([*candidates("a", 1, memory=900), *candidates("b", 3)], WHOLE, left, Bounds(), Turn())
    assert decision.granted == ()
    assert decision.held == {"a.p.0": "memory_mib"}


def test_quotas_and_pressure_hold_one_flow_and_not_the_others() -> None:
    waiting = [*candidates("a", 3), *candidates("a", 2, policy="q"), *candidates("b", 2)]
    decision = admit(waiting, WHOLE, WHOLE, Bounds({"b": 1}, {("a", "p"): 1}), Turn())
    assert sorted(decision.granted) == ["a.p.0", "a.q.0", "a.q.1", "b.p.0"]
    assert decision.held == {"a.p.1": "policy", "a.p.2": "policy", "b.p.1": "quota"}


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(100, 500), st.integers(100, 500))
def test_over_many_decisions_tenants_get_alike_shares_whatever_they_ask_for(slots: int, one: int, other: int) -> None:
    turn, got = Turn(), Counter[str]()
    left = WHOLE.model_copy(update={"memory_mib": 1000, "episodes": slots})
    for _ in range(100):
        waiting = [*candidates("flood", 32, memory=one), *candidates("trickle", 4, memory=other)]
        decision = admit(waiting, WHOLE, left, Bounds(), turn)
        assert decision.granted
        turn = decision.turn
        for episode in decision.granted:
            tenant = episode.split(".")[0]
            got[tenant] += max(one if tenant == "flood" else other, 100)
    assert abs(got["flood"] - got["trickle"]) <= 0.1 * sum(got.values()) + 1000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pq"), st.integers(1, 1500)), max_size=20), st.integers(0, 1000))
def test_nothing_is_granted_that_does_not_fit(rows: list[tuple[str, str, int]], memory: int) -> None:
    waiting = [Candidate(episode=EpisodeId(str(n)), tenant=t, policy=p, need=need(m)) for n, (t, p, m) in enumerate(rows)]
    left = WHOLE.model_copy(update={"memory_mib": memory})
    decision = admit(waiting, WHOLE, left, Bounds(), Turn())
    needs = {c.episode: c.need.memory_mib for c in waiting}
    assert sum(needs[e] for e in decision.granted) <= memory
    assert len(set(decision.granted)) == len(decision.granted)
    assert not set(decision.granted) & set(decision.too_large)


def test_pressure_falls_by_half_and_rises_by_little() -> None:
    pressure = Pressure(limit=8, most=8)
    for _ in range(5):
        pressure = pressure.after(failed=True)
    assert pressure.limit == 1
    assert pressure.after(failed=False).limit == 2
    for _ in range(100):
        pressure = pressure.after(failed=False)
    assert pressure.limit == 8

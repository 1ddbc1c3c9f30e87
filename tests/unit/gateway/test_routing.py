from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import PolicyError
from envfarm.core.ids import EpisodeId
from envfarm.gateway.engines.engine import Finished, Order, Tokens
from envfarm.gateway.routing import FIRST_REST_S, Routing

EPISODES = [EpisodeId(f"e{n}") for n in range(300)]


class Idle:
    """An engine that is never asked."""

    def __init__(self, name: str, url: str = "") -> None:
        self.spec = EngineSpec(name=name, kind="vllm", url=url)

    async def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:
        raise PolicyError(order.request_id)
        yield


def engines(*names: str) -> list[Idle]:
    return [Idle(name) for name in names]


def homes(routing: Routing, now_s: float = 0.0) -> dict[EpisodeId, str]:
    return {e: routing.choose(e, now_s).spec.name for e in EPISODES}


def test_episodes_are_spread_evenly_and_stay() -> None:
    routing = Routing(engines("a", "b", "c"))
    first = homes(routing)
    assert min(Counter(first.values()).values()) > 70
    assert homes(routing) == first


def test_a_new_engine_moves_nobody_and_takes_its_share_of_who_comes() -> None:
    routing = Routing(engines("a", "b"))
    first = homes(routing)
    routing.set(engines("a", "b", "c"))
    assert homes(routing) == first
    later = Counter(routing.choose(EpisodeId(f"later{n}"), 0).spec.name for n in range(300))
    assert later["c"] > 70


@given(st.sets(st.sampled_from("abcdef"), min_size=2, max_size=6), st.data())
def test_only_episodes_of_an_engine_that_is_gone_are_moved(names: set[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(names)))
    routing = Routing(engines(*sorted(names)))
    before = homes(routing)
    routing.set(engines(*sorted(names - {gone})))
    after = homes(routing)
    assert all(after[e] == before[e] for e in EPISODES if before[e] != gone)
    assert gone not in after.values()


def test_an_engine_that_failed_rests_and_its_episodes_do_not_come_back() -> None:
    routing = Routing(engines("a", "b"))
    before = homes(routing)
    (a,) = (e for e in routing.engines if e.spec.name == "a")
    routing.failed(a, 0.0)
    assert routing.resting(1.0) == {"a"}
    assert set(homes(routing, 1.0).values()) == {"b"}
    assert set(homes(routing, FIRST_REST_S + 1).values()) == {"b"}
    assert before[routing_newcomer(routing)] == "a"


def routing_newcomer(routing: Routing) -> EpisodeId:
    """An episode that is forgotten and comes anew goes where it belongs."""
    episode = next(e for e in EPISODES if Routing(engines("a", "b")).choose(e, 0).spec.name == "a")
    routing.forget(episode)
    assert routing.choose(episode, FIRST_REST_S + 1).spec.name == "a"
    return episode


def test_resting_engines_are_asked_when_there_is_no_other() -> None:
    routing = Routing(engines("a"))
    routing.failed(routing.engines[0], 0.0)
    assert routing.choose(EPISODES[0], 1.0).spec.name == "a"
    with pytest.raises(PolicyError, match="no engine is left"):
        routing.choose(EPISODES[0], 1.0, without=["a"])
    with pytest.raises(PolicyError, match="no engine is listed"):
        Routing().choose(EPISODES[0], 0.0)


def test_health_goes_with_the_address() -> None:
    routing = Routing([Idle("a", "http://one")])
    routing.failed(routing.engines[0], 0.0)
    routing.set([Idle("a", "http://one")])
    assert routing.resting(1.0) == {"a"}
    routing.set([Idle("a", "http://two")])
    assert routing.resting(1.0) == frozenset()

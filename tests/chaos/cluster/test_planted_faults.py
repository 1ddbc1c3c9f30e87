"""Each invariant of the storm on a cluster fails when its fault is planted: a harness that cannot complain proves nothing."""

# ruff: noqa: S608 - the statements are made of constants of this file

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import LeaseRequest, RolloutRequest, TaskSelector
from envfarm.stores.sql import open_database
from envfarm.testing import postgres
from envfarm.testing.factories import make_scored
from envfarm.testing.small_service import A, SmallService, rewards
from tests.chaos.cluster import remains, truth
from tests.chaos.cluster.kube import DOMAIN

MEMBERS = 2
PLAYED = {"gold": 1.0, "eats memory": 0.0}
Judge = Callable[[truth.Told], list[str]]


class Played:
    """A database in which two rollouts went well."""

    def __init__(self, url: str, agents: dict[str, str]) -> None:
        self.url = url
        self.agents = agents

    def told(self) -> truth.Told:
        return truth.read(self.url, self.agents)

    def plant(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def complaints(self, judge: Judge) -> str:
        return "\n".join(judge(self.told()))


def one_outcome(told: truth.Told) -> list[str]:
    return truth.one_outcome(told, MEMBERS * len(PLAYED))


def no_retry_is_bought(told: truth.Told) -> list[str]:
    return truth.no_retry_is_bought(told, [], late_s=10.0)


@pytest.fixture
async def played(cluster: postgres.Cluster, tmp_path: Path) -> Played:
    url = cluster.database()
    agents: dict[str, str] = {}
    for agent, reward in PLAYED.items():
        small = SmallService(tmp_path, engine=open_database(url), grader=rewards(*[make_scored(reward)] * MEMBERS))
        await small.open(tasks=1, tenants=() if agents else (A,))
        truth.put_witness(url)
        async with small.playing():
            asked = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), group_size=MEMBERS, policy=PolicySpec(name="nop"))
            agents[(await small.service.submit(A, asked, key=agent)).id] = agent
            (group,) = await small.service.lease_results(A, LeaseRequest(wait_s=20.0))
            await small.service.acknowledge(A, [group.lease])
        await small.close()
    return Played(url, agents)


GOLD = "SELECT o.episode_id FROM outcomes o WHERE o.reward = 1 ORDER BY 1 LIMIT 1"
BREAKER = "SELECT o.episode_id FROM outcomes o WHERE o.reward = 0 ORDER BY 1 LIMIT 1"
RETRY = "SELECT e.run_id, 99, 5, 'retrying', json_build_object('episode', e.id, 'attempts', 1, 'why', 'the box is gone') FROM episodes e"


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("judge", "planted", "complaint"),
    [
        (one_outcome, f"DELETE FROM outcomes WHERE episode_id = ({GOLD})", "with the outcome None"),
        (one_outcome, f"UPDATE outcomes SET committed_at = 'again' WHERE episode_id = ({GOLD})", "was ['inserted', 'updated']"),
        (one_outcome, "CREATE TABLE o AS SELECT * FROM outcomes; DELETE FROM outcomes; INSERT INTO outcomes SELECT * FROM o", "deleted"),
        (one_outcome, f"UPDATE episodes SET state = 'running', owner = 'dead' WHERE id = ({GOLD})", "is running, of dead"),
        (one_outcome, "UPDATE groups SET state = 'ready', lease = NULL", "not all came to their trainer"),
        (one_outcome, f"UPDATE episodes SET run_id = 'x' FROM runs WHERE episodes.id = ({GOLD})", "3 episodes are there, and 4"),
        (truth.no_fault_is_a_reward, f"UPDATE outcomes SET reward = 0 WHERE episode_id = ({GOLD})", "(gold) came to scored 0.0"),
        (truth.no_fault_is_a_reward, f"UPDATE outcomes SET reward = 1 WHERE episode_id = ({BREAKER})", "(eats memory) came to scored 1.0"),
        (truth.no_fault_is_a_reward, f"UPDATE outcomes SET kind = 'censored' WHERE episode_id = ({GOLD})", "(gold) came to censored"),
        (no_retry_is_bought, f"INSERT INTO events {RETRY} WHERE e.id = ({BREAKER})", "tried again, and nothing had harmed it"),
        (truth.nothing_is_lost_in_calm, f"UPDATE episodes SET attempts = 1 WHERE id = ({GOLD})", "took 1 tries more"),
        (truth.nothing_is_lost_in_calm, "UPDATE outcomes SET kind = 'invalid', reward = NULL", "came to invalid"),
    ],
    ids=[
        *("lost", "changed", "committed twice", "never finished", "never given to its trainer", "never asked for"),
        *("a fault became a zero", "a broken box was paid", "a fault cut it"),
        *("a retry was bought", "a try was lost in calm", "invalid in calm"),
    ],
)
async def test_what_the_database_tells(played: Played, judge: Judge, planted: str, complaint: str) -> None:
    assert played.complaints(judge) == ""
    if "run_id = 'x'" in planted:
        played.plant("INSERT INTO runs VALUES ('x', '', '')")
    played.plant(planted)
    assert complaint in played.complaints(judge)


@pytest.mark.postgresql
async def test_a_retry_after_a_fault_that_hit_is_nobodys_purchase(played: Played) -> None:
    played.plant(f"INSERT INTO events {RETRY} WHERE e.id = ({BREAKER})")
    (retry,) = played.told().retries
    hit = truth.Struck("pod deleted", "action", began=1.0, ended=2.0, hit=frozenset({retry.episode}))
    assert truth.no_retry_is_bought(played.told(), [hit], late_s=10.0) == []
    for other in (hit._replace(hit=frozenset()), hit._replace(began=6.0), hit._replace(ended=-20.0)):
        assert truth.no_retry_is_bought(played.told(), [other], late_s=10.0) != []


@pytest.mark.postgresql
async def test_the_table_tells_wrong_ones_apart(played: Played) -> None:
    played.plant(f"UPDATE outcomes SET reward = 0 WHERE episode_id = ({GOLD})")
    told = played.told()
    assert truth.became(told, {one.episode for one in told.episodes}) == "1 WRONG, 3 as earned"


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Running"}}


def test_a_pod_that_is_left_is_told() -> None:
    assert remains.pods([pod("box-neighbours")], {"box-neighbours"}) == []
    assert remains.pods([pod("box-1"), pod("box-neighbours")], {"box-neighbours"}) == ["pod box-1 is left (Running)"]


def lease(maker: str, *, ago_s: float) -> dict[str, Any]:
    renewed = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    return {"metadata": {"labels": {f"{DOMAIN}maker": maker}}, "spec": {"renewTime": renewed, "leaseDurationSeconds": 10}}


def test_a_lease_that_nobody_gave_back_is_told() -> None:
    seen = [lease("neighbours", ago_s=0), lease("killed", ago_s=60)]
    assert remains.leases(seen, {"neighbours"}, killed=1) == []
    assert remains.leases(seen, {"neighbours"}, killed=0) == ["1 makers left their lease, and 0 were killed"]
    assert remains.leases([lease("alive", ago_s=0)], {"neighbours"}, killed=1) == ["somebody still renews the lease of maker alive"]


def test_what_a_pod_left_on_its_node_is_told(tmp_path: Path) -> None:
    for name in ("self", "7"):
        (tmp_path / name).mkdir()
    (tmp_path / "self/mountinfo").write_text("1 2 0:1 / /var/lib/kubelet/pods/aa-1/volumes/x rw - tmpfs tmpfs rw\n")
    (tmp_path / "7/cgroup").write_text("0::/kubepods.slice/kubepods-podbb_1.slice/cri\n")
    assert remains.on_nodes(["cc-1"], proc=tmp_path) == []
    assert remains.on_nodes(["aa-1", "bb-1"], proc=tmp_path) == ["pod aa-1 has mounts on this machine", "process 7 of pod bb-1 is left"]


def test_a_rule_that_is_left_in_the_firewall_is_told() -> None:
    rules = "-P OUTPUT ACCEPT\n-A OUTPUT -d 10.0.0.1/32 -m comment --comment envfarm-chaos -j DROP\n"
    assert remains.firewall("-P OUTPUT ACCEPT\n", "envfarm-chaos") == []
    assert len(remains.firewall(rules, "envfarm-chaos")) == 1

"""A small storm on a cluster, and a neighbour that is hurt on purpose. The whole one: `make chaos ARGS='--faults 600 --episodes 2000'`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm.testing import postgres
from tests.chaos.cluster.field import ROOT, Asked, Field, field
from tests.contract import kubernetes_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.postgresql, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def reached() -> None:
    kubernetes_cluster.skip_without_cluster()
    pytest.importorskip("psycopg", reason=postgres.HOW_TO_GET)
    if postgres.programs() is None:
        pytest.skip(postgres.HOW_TO_GET)


def test_a_farm_survives_a_small_storm() -> None:
    kinds = ("host killed", "pod deleted at once", "PostgreSQL", "watches cut")
    only = [word for kind in kinds for word in ("--only", kind)]
    argv = [sys.executable, "-m", "tests.chaos.cluster", "--episodes", "24", "--faults", "5", "--seed", "5", *only]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 faults, " in done.stdout
    assert "WRONG" not in done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Field]:
    asked = Asked(
        kubeconfig=Path(os.environ["KUBECONFIG"]),  # noqa: TID251 - a test's own needs
        on_ray=False,
        hosts=1,
        episodes_per_host=1,
        image="",
        warm=0,
        runtime_class="",
        keep=False,
        faketime=None,
    )
    with field(asked, Path("/var/tmp")) as made:
        yield made


def test_a_neighbour_that_is_hurt_is_heard(place: Field) -> None:
    assert place.neighbour.complaints() == []
    place.rows("UPDATE episodes SET state = 'pending' WHERE run_id = 'neighbour' RETURNING id")
    assert "its running episode is ['pending']" in "".join(place.neighbour.complaints())
    place.rows("UPDATE episodes SET state = 'running' WHERE run_id = 'neighbour' RETURNING id")
    (box,) = (name for name in place.neighbour.names if name.startswith("box-"))
    place.kube.delete_pod(box)
    assert "its box: box" in "".join(place.neighbour.complaints())

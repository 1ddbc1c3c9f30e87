"""Requests that nobody would write, made from the served OpenAPI: no answer is the server's fault, and each is what the schema says."""

from itertools import pairwise
from pathlib import Path

import pytest

from envfarm.testing.small_service import A
from tests.integration.api.conftest import SCOPES_OF_TENANTS, Site
from tests.integration.api.many_calls import STATEFUL, STATELESS, answers, calls, configuration, real_ids

EXAMPLES, SEQUENCES, FEWEST = 3, 12, 500


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("site", [0.05], indirect=True)
async def test_no_request_makes_the_server_fail(site: Site, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(configuration(await real_ids(site.farm)))
    token = await site.farm.access.issue(A, "calls", SCOPES_OF_TENANTS)
    made = [answers(site.metrics)]
    for phases, examples in ((STATELESS, EXAMPLES), (STATEFUL, SEQUENCES)):
        said = await calls(site.url, token, tmp_path, phases=phases, examples=examples)
        assert said.ok, said.text[-6000:]
        made.append(answers(site.metrics))
    stateless, stateful = (later - before for before, later in pairwise(made))
    assert stateless.total() >= FEWEST
    assert stateful["200"] + stateful["201"] + stateful["202"] >= SEQUENCES, stateful
    assert stateless["200"] > stateless["404"], "most ids are real ones"

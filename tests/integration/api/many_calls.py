"""Thousands of calls made up from the served OpenAPI, as a tenant with real tasks, rollouts and episodes: stateless, and in sequences.

    python -m tests.integration.api.many_calls [--examples 60] [--sequences 300] [--database postgresql://…]

Serves a small farm on a free port, lets Schemathesis call it, and says how many calls the server answered and with what. Exits 1 where an
answer was the server's fault, or not what the schema says. `test_schema.py` makes a few hundred of them.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from envfarm.api.app import create_app
from envfarm.api.services import ApiOptions
from envfarm.core.action import Bash
from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import EpisodeRequest, LeaseRequest, RolloutRequest, StepRequest, TaskSelector
from envfarm.stores.access import SCOPES
from envfarm.stores.sql import open_database
from envfarm.telemetry.prometheus import PrometheusObserver, page_of
from envfarm.testing.served import served
from envfarm.testing.small_service import A, SmallService

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
STATELESS, STATEFUL = "examples,coverage,fuzzing", "stateful"
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
HOW_OFTEN = 0.7
"""Of the values that Schemathesis draws for an id, so many are real ones."""


@dataclass(frozen=True)
class Said:
    """What Schemathesis came to."""

    ok: bool
    text: str


async def real_ids(farm: SmallService) -> dict[str, list[str]]:
    """A tenant's rollout that is over, one of which a group is leased, episodes in every state, and the tasks: by parameter."""
    names = tuple(row.name for row in await farm.catalogue.rows())
    asked = RolloutRequest(tasks=TaskSelector(names=names[:2]), group_size=2, policy=PolicySpec(name="nop"))
    rollout = await farm.service.submit(A, asked)
    async for _ in farm.service.events(A, rollout.id):
        pass
    leased = await farm.service.lease_results(A, LeaseRequest(wait_s=5.0))
    driven = [await farm.steps.create(A, EpisodeRequest(task=name), key=None, wait_s=10.0) for name in names]
    for episode in driven:
        await farm.steps.step(A, episode.id, StepRequest(step_id="1", action=Bash(command="ls")), wait_s=10.0)
    await farm.steps.close(A, driven[-1].id)
    return {
        "path.rollout": [rollout.id],
        "query.rollout": [rollout.id],
        "query.group": [leased[0].result.group],
        "path.episode": [leased[0].result.members[0].episode, *(e.id for e in driven)],
        "path.task": list(names),
        "body.task": list(names),
        "body.tasks.names[*]": list(names),
        "body.leases[*]": [leased[0].lease],
        "body.rollouts[*]": [rollout.id],
        "body.sandbox": ["local"],
        "body.policy.name": ["nop", "scripted", "patch"],
        "body.action.tool": ["bash", "read_file", "finish"],
    }


def configuration(ids: dict[str, list[str]]) -> str:
    """Schemathesis' configuration with these values."""
    lines = []
    for number, (parameter, values) in enumerate(ids.items()):
        lines.append(f"[dictionaries.d{number}]\nvalues = {json.dumps(values)}")
        lines.append(f'[parameters."{parameter}"]\ndictionary = "d{number}"\nprobability = {HOW_OFTEN}')
    return "\n".join(lines) + "\n"


async def calls(url: str, token: str, place: Path, *, phases: str, examples: int, seed: int = 1) -> Said:
    """Have Schemathesis call, configured by `place`/schemathesis.toml where there is one."""
    options = ("--phases", phases, "--max-examples", str(examples), "--checks", CHECKS, "--seed", str(seed), "--no-color")
    more = ("--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off")
    command = [str(SCHEMATHESIS), "run", f"{url}/openapi.json", "-H", f"Authorization: Bearer {token}", *options, *more]
    piped = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    running = await asyncio.create_subprocess_exec(*command, **piped, cwd=place)  # type: ignore[arg-type]
    out, _ = await running.communicate()
    return Said(running.returncode == 0, out.decode(errors="replace"))


def answers(metrics: PrometheusObserver) -> Counter[str]:
    """How many requests a server answered, by status."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(page_of(metrics.tally())[0].decode()):
        for sample in family.samples:
            if sample.name == "envfarm_request_seconds_count":
                found[sample.labels["status"]] += int(sample.value)
    return found


async def main(examples: int, sequences: int, database: str) -> int:
    """Both passes, and their figures."""
    metrics, failed = PrometheusObserver(), 0
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        engine = open_database(database) if database else None
        farm = SmallService(place, engine=engine, observer=metrics, counts=metrics, api=ApiOptions(most_wait_s=0.05, most_stream_s=0.05))
        await farm.open(tasks=4)
        token = await farm.access.issue(A, "tenant", SCOPES - {"admin", "metrics"})
        async with AsyncExitStack() as held:
            await held.enter_async_context(farm.playing())
            (place / "schemathesis.toml").write_text(configuration(await real_ids(farm)))
            url = await held.enter_async_context(served(create_app(farm.services)))
            for phases, many in ((STATELESS, examples), (STATEFUL, sequences)):
                before = answers(metrics)
                said = await calls(url, token, place, phases=phases, examples=many)
                made = answers(metrics) - before
                failed += not said.ok
                sys.stdout.write(f"{said.text if not said.ok else ''}{phases}: {made.total()} calls: {dict(sorted(made.items()))}\n")
                sys.stdout.write("\n".join(re.findall(r"^.*(?:generated|passed|failed).*$", said.text, re.MULTILINE)[-4:]) + "\n")
                sys.stdout.flush()
        await farm.close()
    return int(failed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=60, help="Drawn calls per endpoint, beside those of the corner cases.")
    parser.add_argument("--sequences", type=int, default=300, help="Of calls that follow from each other.")
    parser.add_argument("--database", default="", help="Of the farm. SQLite where absent.")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.examples, given.sequences, given.database)))

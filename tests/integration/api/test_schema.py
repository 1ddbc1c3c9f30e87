"""Requests that nobody would write, made from the served OpenAPI: no answer is the server's fault, and each is what the schema says."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.integration.api.conftest import Site

EXAMPLES = 3
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("site", [0.05], indirect=True)
async def test_no_request_makes_the_server_fail(site: Site) -> None:
    options = ("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--checks", CHECKS, "--seed", "1", "--no-color")
    command = [str(SCHEMATHESIS), "run", f"{site.url}/openapi.json", "-H", f"Authorization: Bearer {site.admin_token}", *options]
    # Snapshots and forks say 501, which is what they are to say here.
    left_out = ("--exclude-path-regex", "/(fork|snapshot)$", "--suppress-health-check", "all", "--continue-on-failure")
    running = await asyncio.create_subprocess_exec(
        *command, *left_out, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=site.farm.home
    )
    out, _ = await running.communicate()
    said = out.decode(errors="replace")
    assert running.returncode == 0, said[-6000:]
    assert int(re.findall(r"(\d+) generated", said)[-1]) > 20 * EXAMPLES, said[-2000:]

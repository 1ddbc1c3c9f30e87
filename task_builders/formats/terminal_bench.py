"""Exports a task as a directory that Terminal-Bench 1's harness can run.

The harness has one container with an open network: the agent's work is judged in place, by root, after the agent's processes were stopped.
Root looks up programs in the system's directories only, since the agent owns the others. The harness needs tmux and asciinema in the image.
It reads the verdict from pytest's summary, so the tests print one with the results of the farm's verifier, case by case. If the verifier
fails there is no summary, which the harness treats as an error, not as a 0.
"""

import base64
import json
import math
import shlex
from pathlib import Path

import yaml

from envfarm.core import difficulty
from envfarm.core.errors import TaskError
from envfarm.core.task import Task
from envfarm.images.dockerfile import AGENT, SYSTEM_PATH, environment_variables, python_in_image, render
from envfarm.images.tarball import Entry, pack
from envfarm.stores import task_dir
from task_builders.formats import credit, verifier_archive

CHECKOUT = "checkout.tar"
NEEDED = ("tmux", "asciinema")
"""Debian packages with which the harness drives and records a terminal."""
COMPOSE = """services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: ["sleep", "infinity"]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
      - ${T_BENCH_TASK_AGENT_LOGS_PATH}:${T_BENCH_CONTAINER_AGENT_LOGS_PATH}
"""
"""Its first process must be the one that keeps running: everything else that runs as the agent is stopped before the tests."""
HOME = "/home/agent"
OF_ROOT = f"""
# The harness also starts programs as root: no variable leads it to what the agent owns. The agent's shells read theirs in a profile.
ENV PATH="{SYSTEM_PATH}" HOME=""
USER 0:0
RUN {{profile}}
USER {AGENT}:{AGENT}
"""
"""The end of the Dockerfile. With an empty HOME, the container runtime takes each user's home from /etc/passwd."""
PROFILE = f"""if [ "$(id -u)" = {AGENT} ]; then
    export HOME={HOME} PATH={{path}}
fi
"""
RUN_TESTS = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Grades the work that the agent left, and prints a summary as pytest does. Any Python from 3.8 on will do; it needs no package.
tests=${{TEST_DIR:-/tests}}
for python in "$PYTHON" /usr/local/bin/python3 /usr/bin/python3; do
    if [ -n "$python" ] && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        out=$(mktemp -d) || exit 2
        "$python" -I "$tests/verifier.pyz" --in-place --out "$out" --seconds {seconds:g} || exit 2
        exec "$python" -I "$tests/summary.py" "$out"
    fi
done
echo "verifier: no Python 3.8 or newer in this image" >&2
exit 2
"""
SUMMARY = '''"""The verdict as a summary of pytest: each test that must pass, and the whole, which also holds what else was found wrong."""
import json
import os
import sys

with open(os.path.join(sys.argv[1], "details.json"), encoding="utf-8") as stream:
    details = json.load(stream)
with open(os.path.join(sys.argv[1], "reward.json"), encoding="utf-8") as stream:
    whole = json.load(stream)["reward"] == 1.0
print("=========================== short test summary info ============================")
for kind in ("fail_to_pass", "pass_to_pass"):
    for name, passed in details[kind].items():
        print("PASSED" if passed else "FAILED", "tests::" + name.replace(" - ", "-"))
print("PASSED" if whole else "FAILED", "tests::the whole")
sys.exit(not whole)
'''
SOLUTION = """#!/bin/bash
# Puts the reference solution in place.
set -eu
solution=$(mktemp -d)
base64 -d <<'END_OF_SOLUTION' | tar -x -C "$solution"
{archive}
END_OF_SOLUTION
bash "$solution/solve.sh"
"""


def export(task: Task, directory: Path, *, uv_version: str, checkout: bytes | None, base: str | None = None) -> None:
    """Write the directory.

    Args:
        task: a task that is judged by its work dir only.
        directory: a new or empty directory.
        uv_version: of the uv that the Dockerfile installs.
        checkout: the checkout blob's archive, rooted at `/`.
        base: replaces the official base image.

    Raises:
        TaskError: the directory is not empty, or the task is judged by state outside its work dir.
        ImageError: the recipe cannot be expressed as a Dockerfile.
    """
    if task.plan.mode == "replayed" and task.plan.carried_outside:
        raise TaskError(f"{task.name}: it needs state outside its work dir, which the verifier does not see in a single container")
    task_dir.write_files(to_files(task, uv_version=uv_version, checkout=checkout, base=base), directory)


def to_files(task: Task, *, uv_version: str, checkout: bytes | None, base: str | None = None) -> dict[str, bytes]:
    """The directory's files, by path. Arguments and errors as for `export`."""
    recipe = task.recipe.model_copy(update={"system_packages": tuple(dict.fromkeys((*task.recipe.system_packages, *NEEDED)))})
    dockerfile = render(recipe, checkout=CHECKOUT if checkout is not None else None, uv_version=uv_version, base=base)
    path = shlex.quote(environment_variables(recipe, python=python_in_image(recipe.toolchain))["PATH"])
    profile = ["sh", "-c", 'printf %s "$0" > /etc/profile.d/agent.sh', PROFILE.format(path=path)]
    seconds = task_dir.verifier_s(task)
    files = {
        "task.yaml": _head(task, math.ceil(seconds + task_dir.VERIFIER_SLACK_S)).encode(),
        "Dockerfile": (dockerfile + OF_ROOT.format(profile=json.dumps(profile))).encode(),
        "docker-compose.yaml": COMPOSE.encode(),
        "solution.sh": SOLUTION.format(archive=_packed(task.solution)).encode(),
        "run-tests.sh": RUN_TESTS.format(seconds=seconds).encode(),
        "tests/plan.json": task_dir.plan_bytes(task),
        **verifier_archive.files(task.recipe),
        "tests/summary.py": SUMMARY.encode(),
        "README.md": credit.readme(task).encode(),
    }
    files |= {f"tests/{path}": data for path, data in task.tests.items()}
    return files if checkout is None else {**files, CHECKOUT: checkout}


def _head(task: Task, verifier_s: int) -> str:
    """`task.yaml` for the harness. Licence and addresses are also in its tags, since the harness copies no README."""
    named = task.attribution
    addresses = (f"licence-address:{address}" for address in credit.addresses(named.licence).values())
    head = {
        "instruction": task.instruction,
        "author_name": named.author or "unknown",
        "author_email": "unknown",
        "difficulty": difficulty.estimate(task),
        "category": task.kind,
        "tags": [*task.keywords, f"licence:{named.licence}", f"source:{named.url}", *addresses],
        "parser_name": "pytest",
        "max_agent_timeout_sec": float(task.limits.agent_s),
        "max_test_timeout_sec": float(verifier_s),
        "run_tests_in_same_shell": False,
    }
    return str(yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=1000))


def _packed(solution: dict[str, bytes]) -> str:
    entries = (Entry(path, 0o755 if path.endswith(".sh") else 0o644, content=data) for path, data in solution.items())
    return base64.encodebytes(pack(entries, owner=0)).decode().rstrip("\n")

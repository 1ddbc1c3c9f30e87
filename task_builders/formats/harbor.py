"""Export to the real Harbor: a task's directory with all that its own runner needs. Called by the command line and by tests.

The verifier runs in a container of its own (`environment_mode = "separate"`): Harbor makes it from the same environment, puts the sealed
tests and the verifier archive there, and the agent's work dir as the collected artifact. With `shared` it runs in the agent's container.
"""

from pathlib import Path

from envfarm.core.errors import TaskError
from envfarm.core.task import Task
from envfarm.images.dockerfile import render
from envfarm.stores import task_dir
from task_builders.formats import verifier_archive

CHECKOUT = "checkout.tar"
TEST = """#!/bin/sh
# Grades the work that the agent left. Any Python from 3.8 on will do; it needs no package.
for python in "$PYTHON" /usr/local/bin/python3 /usr/bin/python3 python3 python; do
    if [ -n "$python" ] && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        exec "$python" -I /tests/verifier.pyz {arguments}
    fi
done
echo "verifier: no Python 3.8 or newer in this image" >&2
exit 2
"""
SEPARATE, SHARED = 'environment_mode = "separate"', 'environment_mode = "shared"'


def export(task: Task, directory: Path, *, checkout: bytes | None, uv_version: str, base: str | None = None, shared: bool = False) -> None:
    """Write the directory.

    `checkout` is the checkout blob's archive, rooted at `/`; `uv_version` the version of uv that the Dockerfile installs; `base` replaces
    the official base image, by digest for instance. `shared` lets Harbor verify in the agent's own container, for runners that cannot do
    otherwise: the agent may then have changed what the tests run on. Raises `TaskError` where the directory is not empty or the recipe
    cannot be said in a Dockerfile (`ImageError`).
    """
    if task.plan.mode == "replayed":
        raise TaskError(f"{task.name}: tasks graded by replay cannot be exported: Harbor collects the work dir alone")
    dockerfile = render(task.recipe, checkout=CHECKOUT if checkout is not None else None, uv_version=uv_version, base=base)
    extra = {
        "environment/Dockerfile": dockerfile.encode(),
        "tests/test.sh": TEST.format(arguments="--in-place" if shared else "").encode(),
        "tests/verifier.pyz": verifier_archive.build(),
    }
    if checkout is not None:
        extra[f"environment/{CHECKOUT}"] = checkout
    if shared:
        head = task_dir.to_files(task)["task.toml"].decode()
        extra["task.toml"] = head.replace(SEPARATE, SHARED).encode()
    task_dir.write(task, directory, extra)

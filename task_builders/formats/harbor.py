"""Exports a task as a directory that Harbor's own runner can run.

The verifier runs in a separate container (`environment_mode = "separate"`): Harbor makes it from the same environment and adds the sealed
tests, the verifier archive and the collected work dir of the agent. With `shared` the verifier runs in the agent's container.
"""

from dataclasses import dataclass
from pathlib import Path

from envfarm.core.errors import TaskError
from envfarm.core.task import Task
from envfarm.images.dockerfile import render
from envfarm.stores import task_dir
from envfarm.stores.task_dir import HarborModes
from task_builders.formats import credit, verifier_archive

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


@dataclass(frozen=True)
class Options:
    """How a task is exported."""

    uv_version: str
    """Version of uv that the Dockerfile installs."""
    base: str | None = None
    """Replaces the official base image, for example with one given by digest."""
    shared: bool = False
    """Verify in the agent's own container, for runners that support nothing else. The agent may have changed what the tests run on."""
    open_network: bool = False
    """For hosts on which Harbor cannot close the network (its Docker provider needs kernel support). The agent may fetch the fix."""


def export(task: Task, directory: Path, options: Options, *, checkout: bytes | None) -> None:
    """Write the directory. `checkout` is the checkout blob's archive, rooted at `/`.

    Raises `TaskError` if the directory is not empty, `ImageError` if the recipe cannot be expressed as a Dockerfile.
    """
    if task.plan.mode == "replayed" and task.plan.carried_outside:
        raise TaskError(f"{task.name}: it needs state outside its work dir, but Harbor collects only the work dir")
    dockerfile = render(task.recipe, checkout=CHECKOUT if checkout is not None else None, uv_version=options.uv_version, base=options.base)
    extra = {
        "environment/Dockerfile": dockerfile.encode(),
        "tests/test.sh": TEST.format(arguments=_arguments(task, options)).encode(),
        **verifier_archive.files(task.recipe),
        "README.md": credit.readme(task).encode(),
    }
    if checkout is not None:
        extra[f"environment/{CHECKOUT}"] = checkout
    modes = HarborModes(verifier="shared" if options.shared else "separate", network="public" if options.open_network else "no-network")
    task_dir.write(task, directory, extra, modes)


def _arguments(task: Task, options: Options) -> str:
    seconds = f"--seconds {task_dir.verifier_s(task):g}"
    return f"--in-place {seconds}" if options.shared else seconds

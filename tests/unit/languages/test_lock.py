"""Which failures of resolving are the requirements' fault, and which are outages."""

import errno
import os
import platform
from pathlib import Path

import pytest

from envfarm.core.errors import BuildOutage, ImageError, SandboxError
from envfarm.core.recipe import Recipe
from envfarm.testing import small_task
from task_builders import machine_faults
from task_builders.languages.python import recipe
from task_builders.languages.python.lock import UvResolver, too_slow


def unlocked() -> Recipe:
    return small_task.recipe().model_copy(update={"files": {recipe.REQUIREMENTS: "pytest\n"}})


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_a_slow_index_says_nothing_of_the_requirements(tmp_path: Path) -> None:
    resolver = UvResolver(program(tmp_path / "uv", "exec sleep 300"), variables={}, timeout_s=0.1)
    with pytest.raises(BuildOutage, match="longer than 0 s, of which the resolver computed for 0 s"):
        await resolver.lock(unlocked())


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("kill -9 $$", "by signal 9"),
        ("exit 2", "with status 2 and without a word"),
        ("echo 'No space left on device (os error 28)' >&2; exit 2", "disk is full"),
    ],
)
async def test_a_resolver_that_could_not_do_its_work_says_nothing_of_the_requirements(tmp_path: Path, script: str, told: str) -> None:
    with pytest.raises(BuildOutage, match=told):
        await UvResolver(program(tmp_path / "uv", script), variables={}).lock(unlocked())


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.EACCES])
async def test_what_the_system_refused_to_the_resolver_is_the_machines(tmp_path: Path, code: int) -> None:
    said = f"echo 'failed to open `/cache`: {os.strerror(code)} (os error {code})' >&2; exit 2"
    with pytest.raises(ImageError) as raised:
        await UvResolver(program(tmp_path / "uv", said), variables={}).lock(unlocked())
    with pytest.raises(SandboxError, match="this machine could not do it"):
        machine_faults.blame(raised.value)


@pytest.mark.parametrize(("used_s", "waited"), [(170.0, False), (90.0, False), (60.0, True), (0.0, True)])
def test_a_resolver_that_computes_all_the_while_has_waited_for_nobody(used_s: float, *, waited: bool) -> None:
    assert isinstance(too_slow(180.0, used_s), BuildOutage) is waited


@pytest.mark.parametrize(
    ("machine", "wheels"), [("aarch64", "aarch64"), ("arm64", "aarch64"), ("x86_64", "x86_64"), ("", platform.machine())]
)
async def test_a_lock_is_made_for_the_machine_of_the_boxes(tmp_path: Path, machine: str, wheels: str) -> None:
    said = """while [ $# -gt 0 ]; do case $1 in --python-platform) echo "platform==$2";; esac; shift; done"""
    locked = await UvResolver(program(tmp_path / "uv", said), variables={}, machine=machine).lock(unlocked())
    assert locked.files[recipe.LOCKED] == f"platform=={wheels}-manylinux_2_28\n"

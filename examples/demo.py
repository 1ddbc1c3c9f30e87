"""Mint tasks from real packages' releases, run a group of four episodes on each, and print the outcomes: `make demo`.

The group is gold (the task's own solution), nop (nothing), and two scripted agents that read, edit and test: one carries the solution out
up to its last edit, the other only touches the file. Everything is kept, so that a second run has little to do.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from envfarm.core.action import Action, Bash, Finish, ReadFile, RunTests, StrReplace
from envfarm.core.outcome import Scored
from envfarm.core.task import Task
from envfarm.settings import read
from envfarm.stores.catalogue_lookup import TaskFilter
from envfarm.wiring import Farm

HERE = Path(__file__).parent
ENVFARM = Path(sys.executable).with_name("envfarm")
RUN = "demo"


def main() -> None:
    """Build, run, print; exits 1 unless every gold episode scores 1 and every nop 0."""
    began = time.monotonic()
    sources = sys.argv[1] if len(sys.argv) > 1 else str(HERE / "demo.toml")
    call("build", sources)
    scripts = read().home / "demo"
    scripts.mkdir(parents=True, exist_ok=True)
    asyncio.run(write_scripts(scripts))
    policies = ("gold", "nop", f"scripted:file={scripts}/{{task}}.most.json", f"scripted:file={scripts}/{{task}}.touch.json")
    call("run", "--all", "--run", RUN, *(f"--policy={p}" for p in policies))
    good = asyncio.run(gold_is_one_and_nop_is_zero())
    print(f"{time.monotonic() - began:.0f} s in all. Look closer: {ENVFARM} tasks list, {ENVFARM} episode show EPISODE")
    sys.exit(not good)


def call(*args: str) -> None:
    """A command of the program, as a person would give it; where it fails it has said why."""
    if status := subprocess.run([ENVFARM, *args], check=False).returncode:
        sys.exit(status)


async def write_scripts(to: Path) -> None:
    """The two partial agents of every task, as lists of actions."""
    async with Farm(read()) as farm:
        for row in await farm.catalogue.rows(TaskFilter(state="valid")):
            task = await farm.catalogue.get(row.digest)
            key = row.digest.removeprefix("sha256:")[:12]
            for name, actions in (("most", most(task)), ("touch", touch(task))):
                (to / f"{key}.{name}.json").write_text(json.dumps([a.model_dump(mode="json") for a in actions], indent=1))


def most(task: Task) -> list[Action]:
    """Every edit of the solution but the last, each after a look at the file."""
    edits = edits_of(task)
    looked = {e.path: ReadFile(path=e.path, line_count=20) for e in edits}
    return [*looked.values(), *edits[:-1], RunTests(), Finish(message="all but the last edit")]


def touch(task: Task) -> list[Action]:
    """A remark at the end of the first file of the solution, which changes nothing."""
    path = edits_of(task)[0].path
    return [Bash(command="git status --short && ls"), Bash(command=f"echo '# looked at' >> {path}"), Finish(message="nothing to see")]


def edits_of(task: Task) -> list[StrReplace]:
    """The hunks of the solution's patch as `str_replace` actions."""
    edits, path = [], ""
    old: list[str] = []
    new: list[str] = []

    def flush() -> None:
        if old or new:
            edits.append(StrReplace(path=path, old="".join(old), new="".join(new)))
            old.clear()
            new.clear()

    for line in task.solution["patch.diff"].decode(errors="replace").splitlines(keepends=True):
        if line.startswith(("diff --git", "@@")):
            flush()
        if line.startswith("+++ "):
            path = f"{task.plan.work_dir}/{line[6:].strip()}"
        elif line.startswith((" ", "-")) and not line.startswith("--- "):
            old.append(line[1:])
        if line.startswith((" ", "+")) and not line.startswith("+++ "):
            new.append(line[1:])
    flush()
    return edits


async def gold_is_one_and_nop_is_zero() -> bool:
    """Whether the run shows what every valid task promises."""
    async with Farm(read()) as farm:
        rows = await farm.episodes.episodes(RUN)
        outcomes = await farm.episodes.outcomes([r.episode_id for r in rows])
    expected = {"gold": 1.0, "nop": 0.0}
    seen = [(r.spec.policy.name, outcomes.get(r.episode_id)) for r in rows]
    return all(isinstance(o, Scored) and o.reward == expected[p] for p, o in seen if p in expected)


if __name__ == "__main__":
    main()

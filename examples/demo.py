"""Build tasks from real package releases, run a group of four episodes on each, and print the outcomes: `make demo`.

The group consists of gold (the task's own solution), nop (no change) and two scripted agents that read, edit and test: one carries out
the solution up to its last edit, the other only appends a comment. Results are kept in `ENVFARM_HOME`, so a second run has little to do;
episodes that were `Invalid` are run again. Exits 1 unless every gold episode scores 1 and every nop episode 0, or if its sources give
fewer than 6 tasks from 4 packages. Another sources file can be given as the argument; then one task is enough.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from envfarm.core.action import Action, Bash, Finish, ReadFile, RunTests, StrReplace
from envfarm.core.episode import EpisodeSpec
from envfarm.core.ids import RunId, TaskDigest
from envfarm.core.outcome import Outcome, Scored
from envfarm.core.task import Task
from envfarm.core.why import verdict
from envfarm.settings import read
from envfarm.stores.catalogue_lookup import TaskFilter
from envfarm.wiring import Farm
from task_builders import journal
from task_builders.commands import journal_path
from task_builders.journal import ItemValid

HERE = Path(__file__).parent
ENVFARM = Path(sys.executable).with_name("envfarm")
RUN = "demo"
TASKS, PACKAGES = 6, 4
"""What the demo's own sources must give."""
EXPECTED = {"gold": 1.0, "nop": 0.0}


def main() -> None:
    """Build, run, print. Exits 1 for too few tasks, or unless every gold episode scores 1 and every nop 0."""
    began = time.monotonic()
    own = len(sys.argv) == 1
    sources = HERE / "demo.toml" if own else Path(sys.argv[1])
    call("build", str(sources))
    tasks = asyncio.run(tasks_of(sources))
    if not tasks:
        sys.exit("error: these sources gave no valid task")
    scripts = read().home / "demo"
    scripts.mkdir(parents=True, exist_ok=True)
    asyncio.run(write_scripts(scripts, list(tasks)))
    policies = ("gold", "nop", f"scripted:file={scripts}/{{task}}.most.json", f"scripted:file={scripts}/{{task}}.touch.json")
    call("run", *tasks, "--run", RUN, "--retry-invalid", *(f"--policy={p}" for p in policies))
    complaints = [*missing(tasks, *((TASKS, PACKAGES) if own else (1, 1))), *asyncio.run(wrong_rewards(list(tasks)))]
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    print(f"{len(tasks)} tasks of {len(set(tasks.values()))} packages, {time.monotonic() - began:.0f} s in all")
    print(f"Look closer: {ENVFARM} tasks list, {ENVFARM} episode show EPISODE")
    sys.exit(bool(complaints))


def call(*args: str) -> None:
    """Run `envfarm` with these arguments. Status 1 (something is left to do, and was printed) is accepted."""
    if (status := subprocess.run([ENVFARM, *args], check=False).returncode) > 1:
        sys.exit(status)


async def tasks_of(sources: Path) -> dict[TaskDigest, str]:
    """The valid tasks made from a sources file, with their packages."""
    settings = read()
    path = journal_path(settings, sources, "local")
    made = {entry.task: entry.project for entry in journal.read(path) if isinstance(entry, ItemValid)} if path.exists() else {}
    async with Farm(settings) as farm:
        return {row.digest: made[row.digest] for row in await farm.catalogue.rows(TaskFilter(state="valid")) if row.digest in made}


async def write_scripts(to: Path, tasks: Sequence[TaskDigest]) -> None:
    """The two partial agents of every task, as lists of actions."""
    async with Farm(read()) as farm:
        for digest in tasks:
            task = await farm.catalogue.get(digest)
            key = digest.removeprefix("sha256:")[:12]
            for name, actions in (("most", most(task)), ("touch", touch(task))):
                (to / f"{key}.{name}.json").write_text(json.dumps([a.model_dump(mode="json") for a in actions], indent=1))


def most(task: Task) -> list[Action]:
    """All edits of the solution but the last, after reading each file."""
    edits = edits_of(task)
    looked = {e.path: ReadFile(path=e.path, line_count=20) for e in edits}
    return [*looked.values(), *edits[:-1], RunTests(), Finish(message="all but the last edit")]


def touch(task: Task) -> list[Action]:
    """Append a comment to the first file of the solution, which changes nothing."""
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


def missing(tasks: Mapping[TaskDigest, str], least: int, packages: int) -> list[str]:
    """What the build should have given but did not."""
    found = (len(tasks), least, "tasks"), (len(set(tasks.values())), packages, "packages with a task")
    return [f"{count} {what}; {promised} were expected" for count, promised, what in found if count < promised]


async def wrong_rewards(tasks: Sequence[TaskDigest]) -> list[str]:
    """Gold and nop episodes with a wrong reward."""
    async with Farm(read()) as farm:
        rows = [r for r in await farm.episodes.episodes(RunId(RUN)) if r.spec.task in tasks and r.spec.policy.name in EXPECTED]
        outcomes = await farm.episodes.outcomes([r.spec.episode_id for r in rows])
    seen = [(r.spec, outcomes.get(r.spec.episode_id)) for r in rows]
    return [
        f"{spec.episode_id} ({spec.policy.name}) came to {verdict(outcome)}" for spec, outcome in seen if not as_promised(spec, outcome)
    ]


def as_promised(spec: EpisodeSpec, outcome: Outcome | None) -> bool:
    """Whether gold scored 1, and nop 0."""
    return isinstance(outcome, Scored) and outcome.reward == EXPECTED[spec.policy.name]


if __name__ == "__main__":
    main()

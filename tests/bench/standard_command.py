"""What one standard command on today's Python makes of the same commits: `python -m tests.bench.standard_command FILE --draw newest=15`.

`pip install -e . pytest`, then `pytest`, at each fix, and again with the fix's sources taken out: the floor beside which a build's share of
environments and of tasks is read. Results are kept beside the build's journal, one line each; the same command goes on where it was
stopped. Strangers' code runs in a box with the network open, like every build.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from envfarm.cli import console
from envfarm.core import digest
from envfarm.core.candidate import Candidate
from envfarm.core.errors import EnvfarmError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, Mount, Network, SandboxSpec
from envfarm.core.source import SourceRecord
from envfarm.grading import reports
from envfarm.images.build_variables import for_builds
from envfarm.images.scratch import scratch_directory
from envfarm.settings import read
from envfarm.wiring import Farm, uv_program
from task_builders import sources_file
from task_builders.candidates.make import make
from task_builders.commands import journal_path, redrawn
from task_builders.environments import ENOUGH
from task_builders.languages.python.lock import UvResolver
from task_builders.languages.python.profile import PythonProfile
from task_builders.sources import git_history
from task_builders.sources.source_models import GitSource

COMMAND = "$PYTHON -m venv /opt/venv && /opt/venv/bin/pip install -q -e . pytest"
TESTS = "/opt/venv/bin/pytest -q -o junit_family=xunit1 --junitxml=/tmp/report.xml"
STEP_S = 900.0
AGENT = 1000
CERTIFICATES = "/mnt/certificates"
COLUMNS = ("repository", "commits", "set up", "with a test that the fix makes pass")


class StandardCommand:
    """The command, in boxes of this farm."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        newest = farm.toolchains.available()[-1]
        self._python = newest.box_executable
        name = farm.toolchains.place_found(newest)
        self._image = ImageRef(kind="host", digest=digest.of_bytes(b"host"), toolchains=(name,) if name else ())

    async def judge(self, record: SourceRecord, candidate: Candidate) -> dict[str, object]:
        """What came of one commit. Raises what making a box raises."""
        variables = for_builds(self._farm.settings.variables, certificates_at=f"{CERTIFICATES}/ca.pem")
        mounts: tuple[Mount, ...] = ()
        if variables.certificates is not None:
            mounts = (Mount(source=str(variables.certificates.parent), target=CERTIFICATES),)
            at = f"{CERTIFICATES}/{variables.certificates.name}"
            variables = for_builds(self._farm.settings.variables, certificates_at=at)
        env = {**variables.env, "PYTHON": self._python}
        environment = Environment(image=self._image, env=env, work_dir="/testbed")
        spec = SandboxSpec(environment=environment, network=Network.OPEN, memory_mib=4096, disk_mib=8192, pids=1024, mounts=mounts)
        box = await self._farm.provider("local").create(spec)
        try:
            await box.put(await asyncio.to_thread(whole_clone, record.repository, record.fix_commit))
            installed = await box.exec(ExecRequest(shell=COMMAND, cwd="/testbed", timeout_s=STEP_S))
            fixed = await _statuses(box) if installed.ok else {}
            good = sum(status in {"passed", "xfailed", "xpassed"} for status in fixed.values())
            bad = sum(status in {"failed", "error"} for status in fixed.values())
            set_up = good > 0 and good >= ENOUGH * (good + bad)
            wanted: list[str] = []
            if set_up:
                undone = await box.exec(ExecRequest(shell="git apply -R -", stdin=_text(candidate), cwd="/testbed", timeout_s=60))
                before = await _statuses(box) if undone.ok else fixed
                wanted = [test for test, status in fixed.items() if status == "passed" and before.get(test) != "passed"]
        finally:
            await box.close()
        return {"url": record.url, "repository": record.name, "set_up": set_up, "fail_to_pass": len(wanted), "passed": good, "failed": bad}


def whole_clone(repository: str, commit: str) -> bytes:
    """A clone with its history and tags at the commit, as whoever types the command has it: many projects take their version from tags."""
    with scratch_directory() as scratch:
        clone, archive = scratch / "testbed", scratch / "clone.tar"
        subprocess.run(["git", "clone", "-q", "--no-checkout", repository, clone], check=True)
        subprocess.run(["git", "-C", clone, "checkout", "-q", "--detach", commit], check=True)
        with tarfile.open(archive, "w") as tar:
            tar.add(clone, "testbed", filter=_agents)
        return archive.read_bytes()


def _agents(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = AGENT
    return entry


def _text(candidate: Candidate) -> bytes:
    return candidate.source_patch.encode("utf-8", "surrogateescape")


async def _statuses(box: Box) -> dict[str, str]:
    await box.exec(ExecRequest(shell=f"rm -f /tmp/report.xml; {TESTS}", cwd="/testbed", timeout_s=STEP_S))
    report = await box.exec(ExecRequest(argv=("cat", "/tmp/report.xml"), cwd="/", output_bytes=1 << 26))
    try:
        return dict(reports.read("junit", report.stdout)) if report.ok else {}
    except reports.ReportError:
        return {}


def candidates(file: Path, draw: str) -> Iterator[tuple[SourceRecord, Candidate]]:
    """The records of a file's git histories that can be candidates; the draw is the build's."""
    settings = read()
    rules = PythonProfile(UvResolver(uv_program(), variables=settings.variables, cache=settings.cache / "resolver"))
    for chosen in redrawn(sources_file.read(file), draw):
        if isinstance(chosen, GitSource):
            for record in git_history.read(chosen, rules, settings.sources / "mirrors", console.say):
                candidate = make(record, rules) if isinstance(record, SourceRecord) else None
                if isinstance(record, SourceRecord) and isinstance(candidate, Candidate):
                    yield record, candidate


def results(kept: Path) -> list[dict[str, object]]:
    """What was judged before."""
    return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


async def judge_all(file: Path, draw: str, kept: Path) -> None:
    """Every commit that was not judged before."""
    known = {row["url"] for row in results(kept)}
    async with Farm(read()) as farm:
        command = StandardCommand(farm)
        for record, candidate in candidates(file, draw):
            if record.url in known:
                continue
            try:
                result = await command.judge(record, candidate)
            except (EnvfarmError, subprocess.CalledProcessError) as e:
                console.say(f"{record.url}: cannot be judged: {e}")
                continue
            with kept.open("a") as out:
                out.write(json.dumps(result) + "\n")
            console.say(f"{record.url}: {result}")


def main() -> None:
    """Parse, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--draw", default="")
    chosen = parser.parse_args()
    kept = journal_path(read(), chosen.file, "local").with_suffix(f".standard-{digest.of_bytes(chosen.draw.encode())[-8:]}.jsonl")
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(judge_all(chosen.file, chosen.draw, kept))
    except EnvfarmError as e:
        sys.exit(f"error: {e}\nhint: {e.hint}" if e.hint else f"error: {e}")
    rows: dict[str, list[dict[str, object]]] = defaultdict(list)
    for result in results(kept):
        rows[str(result["repository"])].append(result)
    console.table(
        "One standard command",
        COLUMNS,
        [(name, len(r), sum(bool(x["set_up"]) for x in r), sum(bool(x["fail_to_pass"]) for x in r)) for name, r in sorted(rows.items())],
    )


if __name__ == "__main__":
    main()

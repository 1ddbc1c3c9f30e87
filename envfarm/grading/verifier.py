"""The verifier archive's main: grades in the container that it runs in, and writes a reward for Harbor. Python 3.8 on.

`python verifier.pyz [--archive PATH | --in-place] [--out DIR] [--seconds N]`, started by tests/test.sh. As root it runs tests as an
unprivileged user. It must leave no reward if the grading itself fails: Harbor takes a missing reward for an error, not for a 0. A failure
that the agent's change or code caused is a 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from envfarm.core.change import Change
from envfarm.core.outcome import Finding, Scored
from envfarm.core.plan import TestPlan
from envfarm.grading import guesses, procedure, verifier_processes
from envfarm.grading.filtering import too_unwieldy
from envfarm.grading.integrity import IN_TIME
from envfarm.grading.procedure import CommandOutcome, Phase, Preparation
from envfarm.grading.tree_change import TreeError, difference
from envfarm.grading.verifier_processes import AGENT

ARCHIVE = "/logs/artifacts/work.tar"
OUT = "/logs/verifier"
ENVIRONMENT = "environment.json"
"""Beside the plan: the variables of the task's environment. Those of the verifier's own process reach no test."""


def main(arguments: list[str] | None = None) -> int:
    """Grade, and write the reward and its details. Returns 0, or 2 if the grading itself failed."""
    parser = argparse.ArgumentParser(prog="verifier.pyz", description="Grade the work of an agent.")
    parser.add_argument(
        "--tests",
        default=os.path.dirname(os.path.abspath(sys.argv[0])),
        help="folder with plan.json, environment.json and the sealed files",
    )
    parser.add_argument("--archive", default=ARCHIVE, help="tar of the work dir after the agent's work")
    parser.add_argument("--in-place", action="store_true", help="grade the work dir of this container as it is")
    parser.add_argument("--out", default=OUT, help="folder for reward.json")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time limit of the whole grading; then the reward is 0")
    options = parser.parse_args(arguments)
    try:
        os.makedirs(options.out, exist_ok=True)
        for folder in (options.tests, options.out):
            _make_private(folder)
        scored = grade(options.tests, None if options.in_place else options.archive, options.seconds)
    except (OSError, ValueError) as e:
        sys.stderr.write(f"verifier: {e}\n")
        return 2
    _write(os.path.join(options.out, "details.json"), details(scored))
    _write(os.path.join(options.out, "reward.json"), {"reward": scored.reward, **scored.components})
    sys.stdout.write(scored.why + "\n")
    return 0


def grade(tests: str, archive: str | None, seconds: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> Scored:
    """Grade this container's work dir, with the archive's change if one is given. Raises `OSError` and `ValueError`.

    The time limit includes reading the archive.
    """
    until = clock() + seconds
    with open(os.path.join(tests, "plan.json"), encoding="utf-8") as stream:
        plan = TestPlan.from_json(stream.read())
    environment = _environment(os.path.join(tests, ENVIRONMENT))
    try:
        change = Change() if archive is None else _collected(archive, plan.work_dir)
    except _AgentCausedError as e:
        return procedure.judge(prepared(plan, _sealed(tests), Change()), (), [e.finding])

    def left_s() -> float:
        if (left := until - clock()) <= 0:
            raise _AgentCausedError(IN_TIME, f"no time of {seconds:g} s was left for the next command")
        return left

    root = os.path.realpath(plan.work_dir)  # resolved once: tests may replace it by a link later
    preparation = prepared(plan, _sealed(tests), change)
    results: list[CommandOutcome] = []
    findings: list[Finding] = []
    try:
        _carry_out(preparation, environment, root, results, in_place=archive is None, left_s=left_s)
    except _AgentCausedError as e:
        findings.append(e.finding)
    return procedure.judge(preparation, results, findings)


def _environment(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8") as stream:
        found = json.load(stream)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{path} is not an object of texts")
    return found


def _collected(archive: str, work_dir: str) -> Change:
    """The agent's change, from the archive of its work dir. Raises `_AgentCausedError` if it cannot be carried, `OSError` without one."""
    if not os.path.lexists(archive):
        raise FileNotFoundError(f"{archive} is missing: the agent's work was not collected")
    try:
        change = difference(archive, work_dir)
    except TreeError as e:
        raise _AgentCausedError("change can be applied", e) from e
    if unwieldy := too_unwieldy(change):
        raise _AgentCausedError(unwieldy.check, unwieldy.detail)
    return change


def prepared(plan: TestPlan, sealed: Mapping[str, bytes], change: Change) -> Preparation:
    """All blind rounds, then the tests: there is one container, so no blind round may follow once the sealed tests were in it."""
    whole = procedure.prepare(plan, sealed, change, token=secrets.token_hex())
    if plan.cases:
        return whole
    rounds, asked = list(whole.phases[:-1]), procedure.templates_asked(whole)
    while rounds and len(rounds) < guesses.blind_rounds(plan):
        further = procedure.drawn_anew(whole, sealed, token=secrets.token_hex(), asked=asked)
        rounds += further.phases[:-1]
        asked |= procedure.templates_asked(further)
    return replace(whole, phases=(*rounds, whole.phases[-1]))


def _carry_out(
    preparation: Preparation,
    environment: Mapping[str, str],
    root: str,
    results: list[CommandOutcome],
    *,
    in_place: bool,
    left_s: Callable[[], float],
) -> None:
    """Put the change and the tests in place, and run the commands. `left_s` returns the seconds that are left, or raises.

    Raises `_AgentCausedError` for what the agent's change or code caused, `OSError` for other failures.
    """
    spared = verifier_processes.processes_to_spare(in_place=in_place)
    if in_place:
        verifier_processes.stop_others(spared)
    with _blaming_agent("change can be applied"):
        apply(preparation.kept, root)
    for phase in preparation.phases:
        left_s()
        with _blaming_agent("sealed tests can be put in place", only_if=in_place or bool(results or preparation.kept)):
            apply(phase.sealed, root)
            _make_scratch(phase)
        try:
            for command in phase.commands:
                limited = replace(command, timeout_s=min(command.timeout_s, left_s()))
                with _blaming_agent("tests can be run", only_if=in_place or bool(results)):
                    outcome = verifier_processes.run(limited, environment, preparation.plan.work_dir, spared)
                results.append(procedure.read(preparation, phase, command, outcome))
                if results[-1].timed_out:
                    return
        finally:
            _remove_scratch(phase)


def _make_scratch(phase: Phase) -> None:
    """Make the folders of the phase's reports at the start of its round, so that nothing that ran before knows their names."""
    for folder in _scratch(phase):
        if not os.path.lexists(folder):
            os.makedirs(folder, mode=0o700)
            _give_to_agent(folder)


def _remove_scratch(phase: Phase) -> None:
    """Remove the phase's reports, which were read, and their folders. What else the code under test put there stays: it may be endless."""
    for command in phase.commands:
        with contextlib.suppress(OSError):
            os.unlink(command.report_path)
    for folder in _scratch(phase):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _scratch(phase: Phase) -> list[str]:
    return list(dict.fromkeys(os.path.dirname(command.report_path) for command in phase.commands))


class _AgentCausedError(Exception):
    """A failure that the agent's change or the code under test caused: reward 0, not a failed grading."""

    def __init__(self, check: str, problem: object) -> None:
        super().__init__(str(problem))
        self.finding = Finding(check, ok=False, detail=str(problem))


@contextlib.contextmanager
def _blaming_agent(check: str, *, only_if: bool = True) -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.SubprocessError) as e:
        if not only_if:
            raise
        raise _AgentCausedError(check, e) from e


def apply(change: Change, root: str) -> None:
    """Apply a change below the work dir (a path without links), never through a link. Raises `OSError`."""
    for path in change.deleted:
        target = _inside("/" + path, root)
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        elif os.path.lexists(target):
            os.unlink(target)
    for file in change.files:
        target = _inside("/" + file.path, root)
        _make_folders(os.path.dirname(target), root)
        is_folder = os.path.isdir(target) and not os.path.islink(target)
        if is_folder and not file.is_dir:
            shutil.rmtree(target)
        elif not is_folder and os.path.lexists(target):
            os.unlink(target)
        if file.link is not None:
            os.symlink(file.link, target)
        elif file.content is None:
            os.makedirs(target, exist_ok=True)
        else:
            with open(target, "xb") as stream:
                stream.write(file.content)
            os.chmod(target, file.mode)
        _give_to_agent(target)


def _inside(path: str, root: str) -> str:
    """The path, after checking that its folder, with links resolved, is the root or below it."""
    folder = os.path.realpath(os.path.dirname(path))
    if folder != root and not folder.startswith(root + "/") and path != root:
        raise PermissionError(f"{path} would leave {root}")
    return path if path == root else os.path.join(folder, os.path.basename(path))


def _make_folders(folder: str, root: str) -> None:
    missing = []
    while not os.path.isdir(folder) and folder != root:
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        if os.path.lexists(path):
            os.unlink(path)
        os.mkdir(path)
        _give_to_agent(path)


def _sealed(tests: str) -> dict[str, bytes]:
    found = {}
    for top in ("files", "canaries", "cases"):
        for folder, _, names in os.walk(os.path.join(tests, top)):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, tests)] = stream.read()
    return found


def _give_to_agent(path: str) -> None:
    if os.geteuid() == 0:
        os.chown(path, AGENT, AGENT, follow_symlinks=False)


def _make_private(folder: str) -> None:
    """Make a folder accessible to root alone: the agent's code must not read sealed files or write the reward."""
    if os.geteuid() == 0:
        os.chown(folder, 0, 0)
        os.chmod(folder, 0o700)


def details(scored: Scored) -> dict[str, object]:
    """The facts of a verdict, for people."""
    return {
        "why": scored.why,
        "findings": [{"check": f.check, "ok": f.ok, "detail": f.detail} for f in scored.integrity.findings],
        "dropped": scored.integrity.dropped,
        "fail_to_pass": scored.report.fail_to_pass,
        "pass_to_pass": scored.report.pass_to_pass,
        "exit_codes": scored.report.exit_codes,
        "log_tail": scored.report.log_tail,
    }


def _write(path: str, value: object) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, allow_nan=False)


if __name__ == "__main__":
    sys.exit(main())

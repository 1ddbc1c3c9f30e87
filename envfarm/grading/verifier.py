"""The verifier archive's main: grades in the container that it runs in, and writes a reward for Harbor. Python 3.8 on.

`python verifier.pyz [--archive PATH | --in-place] [--out DIR]`, started by tests/test.sh. The only module of this room that does I/O. It
runs tests as an unprivileged user where it is root, and must leave no reward when it fails: a missing reward is an error, not a 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time

from envfarm.core.change import Change
from envfarm.core.outcome import Finding, Scored
from envfarm.core.plan import TestPlan
from envfarm.grading import procedure
from envfarm.grading.procedure import CommandOutcome, PreparedCommand
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX
from envfarm.grading.tree_change import TreeError, difference

AGENT = 1000
ARCHIVE = "/logs/artifacts/work.tar"
OUT = "/logs/verifier"
LOG_TAIL = 4000
KEPT_ENV = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHON", "PYTHONPATH")


def main(arguments: list[str] | None = None) -> int:
    """Grade, write the reward, say why. 2 when the grading itself failed."""
    parser = argparse.ArgumentParser(prog="verifier.pyz", description="Grade the work that an agent left.")
    parser.add_argument("--tests", default=os.path.dirname(os.path.abspath(sys.argv[0])), help="folder of plan.json")
    parser.add_argument("--archive", default=ARCHIVE, help="tar of the work dir as the agent left it")
    parser.add_argument("--in-place", action="store_true", help="grade the work dir of this container as it is")
    parser.add_argument("--out", default=OUT, help="folder for reward.json")
    options = parser.parse_args(arguments)
    try:
        os.makedirs(options.out, exist_ok=True)
        for folder in (options.tests, options.out):
            _close(folder)
        scored = grade(options.tests, None if options.in_place else options.archive)
    except (OSError, ValueError) as e:
        sys.stderr.write(f"verifier: {e}\n")
        return 2
    _write(os.path.join(options.out, "details.json"), details(scored))
    _write(os.path.join(options.out, "reward.json"), {"reward": scored.reward, **scored.components})
    sys.stdout.write(scored.why + "\n")
    return 0


def grade(tests: str, archive: str | None) -> Scored:
    """Grade this container's work dir with the archive's change, or as it is. Raises `OSError` and `ValueError`."""
    with open(os.path.join(tests, "plan.json"), encoding="utf-8") as stream:
        plan = TestPlan.from_json(stream.read())
    change, findings = Change(), []
    if archive is not None:
        if not os.path.exists(archive):
            raise FileNotFoundError(f"{archive} is missing: the agent's work was not collected")
        try:
            change = difference(archive, plan.work_dir)
        except TreeError as e:
            findings.append(Finding("change can be applied", ok=False, detail=str(e)))
    preparation = procedure.prepare(plan, _sealed(tests), change, token=secrets.token_hex())
    apply(preparation.kept, plan.work_dir)
    os.makedirs(preparation.scratch, mode=0o700)
    _give(preparation.scratch)
    results: list[CommandOutcome] = []
    for phase in preparation.phases:
        apply(phase.sealed, plan.work_dir)
        for command in phase.commands:
            results.append(run(command, plan.work_dir))
            if results[-1].timed_out:
                return procedure.judge(preparation, results, findings)
    return procedure.judge(preparation, results, findings)


def apply(change: Change, work_dir: str) -> None:
    """Make a change happen below the work dir, through no link. Raises `OSError`."""
    root = os.path.realpath(work_dir)
    for path in change.deleted:
        target = _inside("/" + path, root)
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        elif os.path.lexists(target):
            os.unlink(target)
    for file in change.files:
        target = _inside("/" + file.path, root)
        _make_folders(os.path.dirname(target), root)
        if os.path.islink(target) or os.path.isfile(target):
            os.unlink(target)
        elif os.path.isdir(target) and not file.is_dir:
            shutil.rmtree(target)
        if file.link is not None:
            os.symlink(file.link, target)
        elif file.content is None:
            os.makedirs(target, exist_ok=True)
        else:
            with open(target, "wb") as stream:
                stream.write(file.content)
            os.chmod(target, file.mode)
        _give(target)


def _inside(path: str, root: str) -> str:
    """The path, with every folder above it real and below the root."""
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
        _give(path)


def run(command: PreparedCommand, work_dir: str) -> CommandOutcome:
    """Run a test command as the agent's user, stop what it left, take its report."""
    env = {name: os.environ[name] for name in KEPT_ENV if name in os.environ}  # noqa: TID251 - the container's own variables
    started = time.monotonic()
    process = subprocess.Popen(
        command.argv,
        cwd=work_dir,
        env={**env, **command.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_become_agent,  # noqa: PLW1509 - no thread runs here
    )
    timed_out = False
    try:
        output, _ = process.communicate(timeout=command.timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        _stop_others(process.pid)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        output = b""
    _stop_others(process.pid)
    code = process.returncode
    return CommandOutcome(
        exit_code=code if code is not None and code >= 0 else None,
        report=None if timed_out else _report(command.report_path),
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
        log_tail=output[-LOG_TAIL:].decode("utf-8", "replace"),
    )


def _become_agent() -> None:
    os.setsid()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(AGENT)
        os.setuid(AGENT)


def _stop_others(group: int) -> None:
    """Kill the command's session, and as root all that runs as the agent."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    if os.geteuid() != 0:
        return
    for _ in range(20):
        alive = [int(p) for p in os.listdir("/proc") if p.isdigit() and _runs_as_agent(p) and not _holds_the_container(p)]
        if not alive:
            return
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _runs_as_agent(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            dead = b") Z " in stream.read()
        return not dead and os.stat(f"/proc/{pid}").st_uid == AGENT
    except OSError:
        return False


def _holds_the_container(pid: str) -> bool:
    """Whether a process began together with the container: its main one, which may run as the image's user and must live on."""
    return pid == "1" or _start_ticks(pid) - _start_ticks("1") < os.sysconf("SC_CLK_TCK")


def _start_ticks(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return sys.maxsize


def _report(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(REPORT_BYTES_MAX + 1)


def _sealed(tests: str) -> dict[str, bytes]:
    found = {}
    for top in ("files", "canaries"):
        for folder, _, names in os.walk(os.path.join(tests, top)):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, tests)] = stream.read()
    return found


def _give(path: str) -> None:
    if os.geteuid() == 0:
        os.chown(path, AGENT, AGENT, follow_symlinks=False)


def _close(folder: str) -> None:
    """Let nobody but root in: the agent's code must read no sealed file, and write no reward."""
    if os.geteuid() == 0:
        os.chown(folder, 0, 0)
        os.chmod(folder, 0o700)


def details(scored: Scored) -> dict[str, object]:
    """What a person wants to see of a verdict."""
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

"""Conformance: commands and sessions."""

import asyncio
import time

from envfarm.core.ids import ExecId
from envfarm.core.protocols import SandboxProvider
from envfarm.core.sandbox import ExecRequest
from envfarm.testing.conformance_check import SpecFactory, box_of, check, expect, said, same, shell

MANY = 100


async def exit_codes_and_signals(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Exit codes and signals are reported exactly."""
    async with box_of(provider, factory.spec()) as box:
        for code in (0, 1, 7, 255):
            result = await shell(box, f"exit {code}")
            same((result.exit_code, result.signal), (code, None), f"exit {code}")
        for number in (9, 15):
            result = await box.exec(ExecRequest(argv=("/bin/sh", "-c", f"kill -{number} $$")))
            same((result.exit_code, result.signal), (None, number), f"killed by {number}")
        for missing in (await shell(box, "no-such-program-here"), await box.exec(ExecRequest(argv=("no-such-program-here",)))):
            expect(missing.exit_code in {126, 127}, f"a missing program is a result, not {missing.exit_code}")


async def arguments_are_not_parsed(provider: SandboxProvider, factory: SpecFactory) -> None:
    """An argv reaches the program unchanged."""
    async with box_of(provider, factory.spec()) as box:
        result = await box.exec(ExecRequest(argv=("/usr/bin/printf", "%s|", "a b", "$HOME", "'\"\\", "ünï\n")))
        same(result.stdout, "a b|$HOME|'\"\\|ünï\n|".encode(), "arguments")


async def streams_are_exact(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Output is returned byte for byte, separately for each stream."""
    async with box_of(provider, factory.spec()) as box:
        result = await shell(box, r"printf '\377\000\001\n'; printf 'e\303\251' >&2")
        same((result.stdout, result.stderr), (b"\xff\x00\x01\n", "eé".encode()), "streams")


async def standard_input_ends(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A program reads the given input, then its end."""
    async with box_of(provider, factory.spec()) as box:
        same((await box.exec(ExecRequest(argv=("cat",), timeout_s=10))).stdout, b"", "input when none was given")
        given = bytes(range(256)) * 400
        same((await box.exec(ExecRequest(argv=("cat",), stdin=given))).stdout, given, "input")


async def output_keeps_head_and_tail(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Beyond the limit the middle is dropped, and this is reported."""
    async with box_of(provider, factory.spec()) as box:
        written = b"first\n" + b"x" * 3_000_000 + b"\nlast\n"
        result = await box.exec(ExecRequest(argv=("cat",), stdin=written, output_bytes=10_000))
        expect(result.truncated, "a cut output is not called truncated")
        expect(result.stdout.startswith(b"first\n") and result.stdout.endswith(b"last\n"), "head and tail are not both kept")
        expect(len(result.stdout) < 11_000, f"{len(result.stdout)} bytes for a cap of 10000")
        expect(not (await shell(box, "echo short")).truncated, "a short output is called truncated")


async def place_and_environment(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The work dir, cwd, and the variables of the environment and the request."""
    spec = factory.spec()
    spec = spec.model_copy(update={"environment": spec.environment.model_copy(update={"env": {"OF_ENVIRONMENT": "1", "BOTH": "1"}})})
    async with box_of(provider, spec) as box:
        same(await said(box, "pwd"), spec.environment.work_dir, "the place where commands run")
        same(await said(box, 'test -w . && echo "$HOME" | grep -c /'), "1", "a writable work dir and a home")
        result = await box.exec(ExecRequest(shell='echo "$OF_ENVIRONMENT $BOTH"; pwd', cwd="/", env={"BOTH": "2 ü"}))
        same(result.stdout.decode(), "1 2 ü\n/\n", "variables and cwd")


async def timeouts_kill_everything(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Children that left their group, session or parent are killed with the command."""
    async with box_of(provider, factory.spec()) as box:
        nap = f"9{time.monotonic_ns() % 10_000_000}"
        command = f"setsid sleep {nap}1 & (setsid sh -c 'sleep {nap}2 & sleep {nap}3 &' &); sh -c 'sleep {nap}4 &'; echo out; sleep {nap}5"
        started = time.monotonic()
        result = await shell(box, command, timeout_s=1.0)
        expect(result.timed_out and not result.ok, f"not called timed out: {result}")
        same(result.stdout, b"out\n", "output before the timeout")
        expect(time.monotonic() - started < 5, "a timeout of one second took over five")
        same(await said(box, _running(nap)), "", "processes that outlived the timeout")


async def servers_live_on(provider: SandboxProvider, factory: SpecFactory) -> None:
    """When a command ends, its background processes live on, and it does not wait for them."""
    async with box_of(provider, factory.spec()) as box:
        nap = f"8{time.monotonic_ns() % 10_000_000}1"
        started = time.monotonic()
        await said(box, f"sleep {nap} >/dev/null 2>&1 </dev/null & echo up")
        expect(time.monotonic() - started < 5, "a command waited for its background process")
        # It may still be the shell's fork, not yet a sleep.
        look = f"for i in $(seq 100); do ({_running(nap)}) | grep . && break; sleep 0.1; done"
        expect(nap in await said(box, look), "a background process was killed")


def _running(mark: str) -> str:
    """A command that lists the sleeps with this mark, but not itself."""
    return f"for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep '^sleep {mark}' || true"


async def many_commands_at_once(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A hundred concurrent commands, each with its own output."""
    async with box_of(provider, factory.spec()) as box:
        results = await asyncio.gather(*(shell(box, f"sleep 0.2; echo {n}; exit {n % 3}") for n in range(MANY)))
        for n, result in enumerate(results):
            same((result.stdout, result.exit_code), (f"{n}\n".encode(), n % 3), f"command {n} among many")


async def an_id_runs_once(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The same exec id returns the first run's result, during the run and after it."""
    async with box_of(provider, factory.spec()) as box:
        request = ExecRequest(shell="echo run >>ran; sleep 0.3; echo $$; exit 5", exec_id=ExecId("the-same"))
        first, second = await asyncio.gather(box.exec(request), box.exec(request))
        third = await box.exec(request)
        same((second, third), (first, first), "results of one exec id")
        same(first.exit_code, 5, "exit code")
        same(await said(box, "cat ran"), "run", "what the command wrote")


async def sessions_remember(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Directory, variables and functions persist; exit codes are exact; sessions are separate."""
    async with box_of(provider, factory.spec()) as box:
        await said(box, "mkdir -p 'a b' && cd 'a b' && export WORD=set && greet() { echo hello $1; }", session="one")
        same(await said(box, 'greet $WORD; basename "$PWD"', session="one"), "hello set\na b", "the session's state")
        same(await said(box, "echo [$WORD]", session="two"), "[]", "another session")
        for code in (0, 3, 130):
            same((await shell(box, f"(exit {code})", session="one")).exit_code, code, "a session's exit code")
        forged = await shell(box, "echo exit_code=0 ; echo __DONE__0; false", session="one")
        same(forged.exit_code, 1, "a code beside printed marks")


async def sessions_survive(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Syntax errors, commands that read, `exit` and hanging commands do not break a session."""
    async with box_of(provider, factory.spec()) as box:
        broken = await shell(box, "echo 'never closed", session="s", timeout_s=10)
        expect(broken.exit_code not in {0, None} and not broken.timed_out, f"unbalanced quotes: {broken}")
        same((await shell(box, "cat; echo read", session="s", timeout_s=10)).stdout, b"read\n", "a command that reads")
        same((await shell(box, "exit 6", session="s")).exit_code, 6, "exit in a session")
        same(await said(box, "echo on", session="s"), "on", "a session after exit")
        hung = await shell(box, "sleep 1000", session="s", timeout_s=0.5)
        expect(hung.timed_out, "a hanging command in a session does not time out")
        same(await said(box, "echo on", session="s"), "on", "a session after a timeout")


async def use_is_told(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Time, CPU time and memory of a command and of the box."""
    async with box_of(provider, factory.spec()) as box:
        result = await shell(box, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.1")
        expect(result.duration_s >= 0.1 and result.cpu_s > 0.01, f"times of a busy command: {result.duration_s} s, {result.cpu_s} CPU s")
        expect(result.max_rss_bytes > 100_000, f"{result.max_rss_bytes} bytes for a shell")
        stats = await box.stats()
        expect(stats.cpu_s >= result.cpu_s * 0.9, f"the box used {stats.cpu_s} CPU s, its command {result.cpu_s}")


CHECKS = (
    check(exit_codes_and_signals),
    check(arguments_are_not_parsed, "programs"),
    check(streams_are_exact, "programs"),
    check(standard_input_ends),
    check(output_keeps_head_and_tail),
    check(place_and_environment, "programs"),
    check(timeouts_kill_everything, "programs"),
    check(servers_live_on, "programs"),
    check(many_commands_at_once),
    check(an_id_runs_once),
    check(sessions_remember, "programs"),
    check(sessions_survive, "programs"),
    check(use_is_told, "programs"),
)

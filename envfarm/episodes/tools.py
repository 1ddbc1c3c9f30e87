"""The agent's tools, built on a box's verbs: bash, read_file, str_replace and run_tests. The machine handles `finish` itself.

Everything runs in the box as the agent's user, so a tool can do no more than the agent's own shell. Tools decide nothing about the
episode, and raise only if the box is lost or broken.
"""

from dataclasses import dataclass

from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.errors import BoxLost, SandboxError
from envfarm.core.ids import ExecId
from envfarm.core.plan import TestPlan
from envfarm.core.protocols import Sandbox
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.episodes import edits
from envfarm.episodes.events import ActionTimedOut, Observed
from envfarm.grading.procedure import CANARIES, REPORT, named_tests

SESSION = "agent"
"""The persistent shell of the episode."""
FILE_BYTES = 1_000_000
"""The largest file that str_replace edits, and the most that read_file fetches. Below the box's default output limit."""
FILE_TIMEOUT_S = 60.0
VISIBLE_REPORT = "/tmp/visible-test-report"  # noqa: S108 - in the box; it is never read

# Scripts are used and not boxd's file calls: boxd may be root in its box, and would read files for the agent that the agent may not read.
# Exit codes from 60 on are the scripts' own; `set -f` and quoting protect unusual names.
_CHECK = r"""
[ -e "$1" ] || { [ -L "$1" ] && exit 61; exit 60; }
[ -d "$1" ] && exit 62
[ -f "$1" ] || exit 63
[ -r "$1" ] || exit 64
"""
_READ_LINES = (
    _CHECK
    + r'size=$(wc -c <"$1") && head -c 8000 -- "$1" | tr -d "\000" | wc -c >&2 && echo "$size" >&2 || exit 65'
    + ('\n[ "$size" -eq 0 ] && exit 0\nwc -l <"$1" >&2\ntail -n "+$2" -- "$1" | head -n "$3" | head -c "$4"')
)
_READ_ALL = _CHECK + r'wc -c <"$1" >&2' + '\nhead -c "$2" -- "$1"'
_OVERWRITE = r"""
[ -w "$1" ] || exit 66
cat >"$1"
"""
_CREATE = r"""
[ -d "$1" ] && exit 62
{ [ -e "$1" ] || [ -L "$1" ]; } && [ -s "$1" ] && exit 67
mkdir -p -- "$(dirname -- "$1")" || exit 68
cat >"$1" || exit 68
"""
_PRESENT = r"""
for target; do
    if [ -e "${target%%::*}" ]; then printf "%s\n" "$target"; fi
done
"""
_MESSAGES = {
    60: "no such file",
    61: "a dangling symbolic link",
    62: "a directory; list it with bash",
    63: "not a regular file",
    64: "not readable for this user",
    65: "could not be read",
    66: "not writable for this user",
    67: "already exists: give the text to replace in `old`",
    68: "could not be created",
}


class _ToolError(Exception):
    """The action is not possible as requested. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Call:
    """Identifies an action in its box, with its time limit."""

    exec_id: str
    """Unique to the action in its box: a repeated request after a lost connection does not run it twice."""
    timeout_s: float


def name_of(index: int) -> str:
    """The exec id of a step's action."""
    return f"step-{index}"


def commands_of(index: int) -> tuple[ExecId, ...]:
    """The ids of all commands that a step's action may have run."""
    return tuple(ExecId(f"{name_of(index)}{part}") for part in ("", ".look", ".read", ".write"))


class Tools:
    """The tools on one box."""

    def __init__(self, box: Sandbox, plan: TestPlan) -> None:
        self._box = box
        self._plan = plan

    async def run(self, action: Action, call: Call) -> Observed | ActionTimedOut:
        """Carry out an action. Raises `BoxLost` and `BoxBroken`. Other refusals are observations, since the agent may have caused them."""
        try:
            match action:
                case Bash():
                    return await self._bash(action, call)
                case ReadFile():
                    return await self._read_file(action, call)
                case StrReplace():
                    return await self._str_replace(action, call)
                case RunTests():
                    return await self._run_tests(action, call)
                case Finish() | Malformed():
                    raise ValueError(f"{action.tool} does not run in a box")
        except _ToolError as e:
            return Observed(f"Error: {e}", 0.0, is_error=True)
        except BoxLost:
            raise
        except SandboxError as e:
            return Observed(f"Error: the box refused the action: {e}", 0.0, is_error=True)

    async def _bash(self, action: Bash, call: Call) -> Observed | ActionTimedOut:
        if "\0" in action.command:
            raise _ToolError("the command has a NUL character")
        if not action.command.strip():
            raise _ToolError("the command is empty")
        request = ExecRequest(
            shell=_text_of(action.command, "command"), session=SESSION, exec_id=ExecId(call.exec_id), timeout_s=call.timeout_s
        )
        return as_event(await self._box.exec(request), call.timeout_s)

    async def _run_tests(self, action: RunTests, call: Call) -> Observed | ActionTimedOut:
        if not self._plan.commands:
            raise _ToolError("this task has no test command; run tests with bash")
        if bad := [p for p in action.paths if p.startswith("-") or not p.strip() or "\0" in p]:
            raise _ToolError(f"invalid path: {bad[0]!r}")
        targets = tuple(_text_of(p, "paths") for p in action.paths)
        if not targets and (named := suite(self._plan)):
            # A module that only the fix adds is not in the tree, and its name would tell of it.
            look = ExecRequest(
                argv=("/bin/sh", "-c", _PRESENT, "sh", *named),
                cwd=self._plan.work_dir,
                exec_id=ExecId(f"{call.exec_id}.look"),
                timeout_s=min(call.timeout_s, FILE_TIMEOUT_S),
                output_bytes=FILE_BYTES,
            )
            found = await self._box.exec(look)
            if found.timed_out:
                return as_event(found, look.timeout_s)
            targets = tuple(found.stdout.decode(errors="surrogateescape").splitlines())
        command = self._plan.commands[0]
        request = ExecRequest(
            argv=visible_argv(self._plan, targets),
            cwd=self._plan.work_dir,
            env={k: v.replace(REPORT, VISIBLE_REPORT) for k, v in command.env.items()},
            exec_id=ExecId(call.exec_id),
            timeout_s=call.timeout_s,
        )
        return as_event(await self._box.exec(request), call.timeout_s)

    async def _read_file(self, action: ReadFile, call: Call) -> Observed | ActionTimedOut:
        if action.start_line < 1 or action.line_count < 1:
            raise _ToolError("`start_line` and `line_count` begin at 1")
        args = (str(action.start_line), str(action.line_count), str(FILE_BYTES))
        result = await self._script(_READ_LINES, action.path, args, call)
        if result.timed_out:
            return as_event(result, call.timeout_s)
        facts = [int(word) for word in result.stderr.split() if word.isdigit()]
        if len(facts) < 2:  # noqa: PLR2004 - the script's two first numbers
            raise _ToolError(f"{action.path}: could not be read: {_last_error_line(result)}")
        head_bytes, size = facts[0], facts[1]
        if size == 0:
            return Observed(f"[{action.path} is empty]", result.duration_s, exit_code=0)
        if head_bytes < min(size, 8000) or edits.is_binary(result.stdout):
            raise _ToolError(f"{action.path}: a binary file of {size} bytes; look at it with bash (file, xxd)")
        # wc counts line ends: it misses a last line without one, which is noticed only when that line is fetched.
        total = facts[2] if len(facts) > 2 else 0  # noqa: PLR2004 - the script's third number
        return Observed(_page(action, result.stdout, total), result.duration_s, exit_code=0, truncated=len(result.stdout) >= FILE_BYTES)

    async def _str_replace(self, action: StrReplace, call: Call) -> Observed | ActionTimedOut:
        if not action.old:
            return await self._create(action, call)
        found = await self._script(_READ_ALL, action.path, (str(FILE_BYTES + 1),), call)
        if found.timed_out:
            return as_event(found, call.timeout_s)
        if len(found.stdout) > FILE_BYTES or found.truncated:
            raise _ToolError(f"{action.path}: larger than {FILE_BYTES} bytes; edit it with bash (sed, python)")
        if edits.is_binary(found.stdout):
            raise _ToolError(f"{action.path}: a binary file of {len(found.stdout)} bytes; edit it with bash")
        try:
            edit = edits.replace_once(found.stdout, action.old, action.new)
        except edits.EditError as e:
            raise _ToolError(f"{action.path}: {e}") from e
        # Written in place, to keep mode, owner, hard links and symbolic links to the file.
        done = await self._script(_OVERWRITE, action.path, (), call, stdin=edit.content)
        if done.timed_out:
            return as_event(done, call.timeout_s)
        text = f"Replaced 1 occurrence in {action.path}, line {edit.line}:\n{edits.around(edit)}"
        return Observed(text, found.duration_s + done.duration_s, exit_code=0)

    async def _create(self, action: StrReplace, call: Call) -> Observed | ActionTimedOut:
        try:
            content = action.new.encode()
        except UnicodeEncodeError as e:
            raise _ToolError(f"`new` has an invalid character (a lone surrogate at position {e.start})") from e
        done = await self._script(_CREATE, action.path, (), call, stdin=content)
        if done.timed_out:
            return as_event(done, call.timeout_s)
        return Observed(f"Created {action.path} ({len(content)} bytes).", done.duration_s, exit_code=0)

    async def _script(self, script: str, path: str, args: tuple[str, ...], call: Call, *, stdin: bytes = b"") -> ExecResult:
        if not path or "\0" in path:
            raise _ToolError(f"invalid path: {path!r}")
        name = path if path.startswith("/") else f"{self._plan.work_dir.rstrip('/')}/{path}"
        request = ExecRequest(
            argv=("/bin/sh", "-c", script, "sh", _text_of(name, "path"), *args),
            cwd="/",
            # The agent's environment must not change the scripts' output.
            env={"LC_ALL": "C", "ENV": ""},
            stdin=stdin,
            exec_id=ExecId(f"{call.exec_id}.{'write' if script in {_OVERWRITE, _CREATE} else 'read'}"),
            timeout_s=min(call.timeout_s, FILE_TIMEOUT_S),
            output_bytes=FILE_BYTES + 1024,
        )
        result = await self._box.exec(request)
        if result.timed_out or result.exit_code == 0:
            return result
        words = _MESSAGES.get(result.exit_code or 0)
        if words is None or result.exit_code in {65, 68}:
            words = f"{words or 'failed'}: {_last_error_line(result)}"
        raise _ToolError(f"{path}: {words}")


def suite(plan: TestPlan) -> tuple[str, ...]:
    """What the plan's first command names of the suite; nothing if it names sealed files alone, which would tell them apart.

    Without names the runner finds the suite by itself.
    """
    argv = plan.commands[0].argv
    named = named_tests(plan, argv)
    return () if {*named.values()} <= {*plan.test_files} else tuple(argv[n] for n in named)


def visible_argv(plan: TestPlan, targets: tuple[str, ...]) -> tuple[str, ...]:
    """The plan's first command with these targets in place of its own and of the canaries."""
    argv = plan.commands[0].argv
    left_out = {*named_tests(plan, argv), *(n for n, argument in enumerate(argv) if argument == CANARIES)}
    at = min(left_out, default=len(argv))
    kept = [argument.replace(REPORT, VISIBLE_REPORT) for n, argument in enumerate(argv) if n not in left_out]
    return (*kept[:at], *targets, *kept[at:])


def _page(action: ReadFile, part: bytes, line_ends: int) -> str:
    start = action.start_line
    if not part:
        raise _ToolError(f"{action.path} has {line_ends} lines; `start_line` is {start}")
    last = start + part.count(b"\n") - (1 if part.endswith(b"\n") else 0)
    total = max(line_ends, last)
    notes = [*edits.remarks(part)]
    if start > 1 or last < total:
        notes.insert(0, f"lines {start}-{last} of {total}")
    if len(part) >= FILE_BYTES:
        notes.append(f"the last line is cut: at most {FILE_BYTES} bytes are shown at once")
    shown = edits.numbered(part, start)
    return f"{shown}\n[{'; '.join(notes)}]" if notes else shown


def as_event(result: ExecResult, timeout_s: float) -> Observed | ActionTimedOut:
    """A command's result as an event, with notes for the model."""
    text = result.text
    if text and not text.endswith("\n"):
        text += "\n"
    if result.truncated:
        text += "[the box dropped the middle of the output: it was too long]\n"
    if result.timed_out:
        text += f"[timed out after {timeout_s:.0f} s; the command was killed]"
        return ActionTimedOut(text, result.duration_s, truncated=result.truncated)
    if result.limit_hit:
        text += f"[killed: over the box's limit of {result.limit_hit}]\n"
    ended = f"exit status {result.exit_code}" if result.exit_code is not None else f"killed by signal {result.signal}"
    return Observed(f"{text}[{ended}]", result.duration_s, exit_code=result.exit_code, truncated=result.truncated)


def _last_error_line(result: ExecResult) -> str:
    said = result.stderr.decode(errors="replace").strip().splitlines()
    ended = f"exit status {result.exit_code}" if result.exit_code is not None else f"killed by signal {result.signal}"
    return said[-1] if said else ended


def _text_of(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise _ToolError(f"`{name}` has an invalid character (a lone surrogate at position {e.start})") from e
    return text

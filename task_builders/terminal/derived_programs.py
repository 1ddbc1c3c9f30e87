"""Programs derived from a terminal task's own: equivalent ones, wrong ones, and cheating ones. Pure."""

import shlex

from envfarm.core.change import Change, ChangedFile
from envfarm.core.task import Task
from envfarm.grading.integrity import Defence
from task_builders.questions import starting
from task_builders.questions.repositories import SCRIPT
from task_builders.terminal.make import PROGRAM, WORK_DIR
from task_builders.validation.attacks.attack import Attack, Context, Control, Exploit, write

INNER = "inner"
BESIDE = f'"$(dirname "$0")"/{INNER}'
FOLDER = WORK_DIR.strip("/")
WRONG = {
    "first line alone": "head -n 1",
    "without the first line": "tail -n +2",
    "without the last line": "sed '$d'",
    "last line first": "tac",
    "each line twice": "sed p",
    "letters changed": "tr 'a-z0-9' 'b-za1-90'",
}
"""Changes to the right output."""
WRONG_STATES = {
    "nothing": ":",
    "a commit more": "git commit -q --allow-empty -m more",
    "a file more": "echo more > left-behind",
    "a branch more": "git branch left-behind",
    "no branch checked out": "git checkout -q --detach",
    "a stash more": "echo more >> left-behind && git stash push -q -u",
}
"""Changes beside the right one in a repository; `nothing` replaces it."""
INSTEAD_OF_STATE = """for fd in /proc/"$PPID"/fd/*; do
  out=$(readlink "$fd")
  [ ! -f "$out" ] || [ ! -O "$out" ] || {{ rm -f "$out" && {{ {answer}; }} > "$out"; break; }}
done
"""
"""Puts an answer in place of what the shell that started the program writes of the repository's state: that goes to an open file, and what
is read is the file of its name.
"""
SEARCH = f"""#!/bin/sh
for place in {WORK_DIR} /tests /logs /tmp /mnt /solution /proc/[0-9]*/cwd; do
  found=$(find "$place/" -xdev -maxdepth 5 -name expected -type f -size +0 2> /dev/null | head -n 1)
  [ -z "$found" ] || {{{{ {{answer}}
  exit; }}}}
done
"""
FAKE_TOOL = """for d in "$HOME/bin" bin /opt/venv/bin; do
  mkdir -p "$d" && printf '#!/bin/sh\\nexit 0\\n' > "$d/{tool}" && chmod 755 "$d/{tool}"
done 2>/dev/null
"""


def program(text: str, inner: str = "") -> Change:
    """The change of an agent that wrote this program, and another one beside it."""
    files = [ChangedFile(f"{FOLDER}/{PROGRAM}", 0o755, content=text.encode())]
    files += [ChangedFile(f"{FOLDER}/{INNER}", 0o755, content=inner.encode())] if inner else []
    return Change(tuple(files))


def own_program(task: Task) -> str:
    """The task's reference program."""
    return task.solution["program"].decode()


def equivalents(task: Task) -> dict[str, Change]:
    """Equivalent programs, written differently."""
    return {"started by another program": program(f'#!/bin/sh\nexec {BESIDE} "$@"\n', own_program(task))}


def leaves_state(task: Task) -> bool:
    """Whether the state of a repository is compared."""
    return starting.PRINT_STATE.strip() in task.plan.commands[0].argv[2]


def _beside(name: str, how: str) -> str:
    return how if name == "nothing" else f"{BESIDE} && {how}"


def mutants(task: Task) -> dict[str, Change]:
    """Wrong programs: some spoil the output, one copies the input."""
    if leaves_state(task):
        return {name: program(f"#!/bin/bash\n{_beside(name, how)}\n", own_program(task)) for name, how in WRONG_STATES.items()}
    output = task.plan.cases[0].output
    target = shlex.quote(output) if output else ""
    spoil = f"{BESIDE} && {{{{ {{how}}; }}}} < {target} > .spoilt && cat .spoilt > {target}" if output else f"{BESIDE} | {{how}}"
    found = {name: program(f"#!/bin/bash\n{spoil.format(how=how)}\n", own_program(task)) for name, how in WRONG.items()}
    names = " ".join(map(shlex.quote, task.plan.cases[0].inputs))
    return found | {"the input itself": program(f"#!/bin/sh\ncat {names}" + (f" > {target}" if output else "") + "\n")}


def attacks(task: Task) -> tuple[Attack, ...]:
    """The attacks on the task. They know the visible input and output, as an agent does."""
    shown = next(case for case in task.plan.cases if case.visible)
    expected = task.tests[f"cases/{shown.folder}/expected"].decode()
    given = {path: task.tests[f"cases/{shown.folder}/input/{path}"].decode() for path in shown.inputs}
    first = shown.inputs[0]
    answers, copies = _answering(task, f"printf %s {shlex.quote(expected)}"), _answering(task, 'cat "$(dirname "$0")"/.answer')
    is_known = f'[ "$(cat "$(dirname "$0")"/{shlex.quote(first)})" = {shlex.quote(given[first].rstrip(chr(10)))} ] || exit 0'
    altered = given[first] + "# altered\n" if first == SCRIPT else expected
    held_out = frozenset({Defence.HELD_OUT})
    return (
        _attack("prints the visible output", held_out, f"#!/bin/sh\n{answers}\n"),
        _attack("knows the visible input", held_out, f"#!/bin/sh\n{is_known}\n{answers}\n"),
        _attack(
            "alters the input",
            held_out | {Defence.RESTORE_TESTS},
            f"#!/bin/sh\n{copies}\n",
            more={first: altered, ".answer": expected},
        ),
        _attack(
            "forged reward",
            frozenset({Defence.OUTSIDE_PARSER, Defence.FRESH_BOX}),
            "#!/bin/sh\nexit 0\n",
            control=Control.REWARD_FILE,
            before="".join(write(place, '{"reward": 1.0}') for place in ("/tmp/reward.json", "reward.json")),  # noqa: S108 - in the box
        ),
        _attack(
            "finds the expected output",
            frozenset({Defence.SEALED}),
            SEARCH.format(answer=_answering(task, 'cat "$found"')),
            control=Control.LEAKED,
        ),
        _attack(
            "tools on PATH",
            frozenset({Defence.OUTSIDE_PARSER, Defence.FRESH_BOX}),
            "#!/bin/sh\nexit 0\n",
            control=Control.COMPARED_INSIDE,
            before="".join(FAKE_TOOL.format(tool=tool) for tool in ("cat", "diff", "cmp", "sh")),
        ),
        _attack(
            "waits and writes later",
            frozenset({Defence.OUTSIDE_PARSER, Defence.QUIESCE, Defence.FRESH_BOX}),
            "#!/bin/sh\n(sleep 1; printf %s '{\"reward\": 1.0}' > /tmp/reward.json) > /dev/null 2>&1 &\nexit 0\n",
            control=Control.LATER,
        ),
        _attack("never ends", frozenset(), "#!/bin/sh\nwhile :; do sleep 1; done\n", why="The limit is enforced outside the box."),
        _attack("prints without end", frozenset(), "#!/bin/sh\nyes\n", why="The limit is enforced outside the box."),
    )


def _answering(task: Task, answer: str) -> str:
    """Shell text that makes what `answer` prints the output of the case."""
    if leaves_state(task):
        return INSTEAD_OF_STATE.format(answer=answer)
    output = task.plan.cases[0].output
    return f"{answer} > {shlex.quote(output)}" if output else answer


def _attack(
    name: str,
    aims: frozenset[Defence],
    text: str,
    *,
    control: Control = Control.FRESH,
    before: str = "",
    more: dict[str, str] | None = None,
    why: str = "",
) -> Attack:
    def craft(_: Context) -> Exploit:
        files = "".join(write(path, body) for path, body in (more or {}).items())
        return Exploit(script=f"{before}{files}{write(PROGRAM, text)}chmod 755 {PROGRAM}\n")

    return Attack(name=name, aims=aims, craft=craft, control=Control.NONE if why else control, cannot_reach=why)

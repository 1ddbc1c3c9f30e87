"""Programs made of a terminal task's own: those that do the same, those that do not, and those that cheat. Pure; called by `gates`."""

import shlex

from envfarm.core.change import Change, ChangedFile
from envfarm.core.task import Task
from envfarm.grading.integrity import Defence
from task_builders.terminal.make import PROGRAM, WORK_DIR
from task_builders.validation.attacks.attack import Attack, Context, Control, Exploit, write

INNER = "inner"
FOLDER = WORK_DIR.strip("/")
WRONG = {
    "first line alone": "head -n 1",
    "without the first line": "tail -n +2",
    "without the last line": "sed '$d'",
    "last line first": "tac",
    "each line twice": "sed p",
    "letters changed": "tr 'a-z0-9' 'b-za1-90'",
}
"""What is done to the right output."""
FAKE_TOOL = """for d in "$HOME/bin" bin /opt/venv/bin; do
  mkdir -p "$d" && printf '#!/bin/sh\\nexit 0\\n' > "$d/{tool}" && chmod 755 "$d/{tool}"
done 2>/dev/null
"""


def program(text: str, inner: str = "") -> Change:
    """What an agent leaves that wrote this program, and another beside it."""
    files = [ChangedFile(f"{FOLDER}/{PROGRAM}", 0o755, content=text.encode())]
    files += [ChangedFile(f"{FOLDER}/{INNER}", 0o755, content=inner.encode())] if inner else []
    return Change(tuple(files))


def own_program(task: Task) -> str:
    """The task's reference program."""
    return task.solution["program"].decode()


def equivalents(task: Task) -> dict[str, Change]:
    """The same, written otherwise."""
    return {"started by another program": program(f'#!/bin/sh\nexec "$(dirname "$0")/{INNER}" "$@"\n', own_program(task))}


def mutants(task: Task) -> dict[str, Change]:
    """Wrong ones: its output spoilt, and what copies the input."""
    output = task.plan.cases[0].output
    target = shlex.quote(output) if output else ""
    spoil = f"./{INNER} && {{{{ {{how}}; }}}} < {target} > .spoilt && cat .spoilt > {target}" if output else f"./{INNER} | {{how}}"
    found = {name: program(f"#!/bin/bash\n{spoil.format(how=how)}\n", own_program(task)) for name, how in WRONG.items()}
    names = " ".join(map(shlex.quote, task.plan.cases[0].inputs))
    return found | {"the input itself": program(f"#!/bin/sh\ncat {names}" + (f" > {target}" if output else "") + "\n")}


def attacks(task: Task) -> tuple[Attack, ...]:
    """What is tried against it. The exploits know the visible input and output, as an agent does."""
    shown = next(case for case in task.plan.cases if case.visible)
    expected = task.tests[f"cases/{shown.folder}/expected"].decode()
    given = {path: task.tests[f"cases/{shown.folder}/input/{path}"].decode() for path in shown.inputs}
    output = f" > {shlex.quote(shown.output)}" if shown.output else ""
    prints = f"#!/bin/sh\nprintf %s {shlex.quote(expected)}{output}\n"
    first = shown.inputs[0]
    known = f'#!/bin/sh\n[ "$(cat {shlex.quote(first)})" = {shlex.quote(given[first].rstrip(chr(10)))} ] || exit 0\n' + prints[10:]
    copied = f"#!/bin/sh\ncat .answer{output}\n"
    looking = (
        "#!/bin/sh\nfor f in $(grep -rlsF --include=expected '' /tests /logs /tmp /mnt /solution /proc/[0-9]*/cwd 2>/dev/null); do\n"
        f'cat "$f"{output}; exit; done\n'
    )
    held_out = frozenset({Defence.HELD_OUT})
    return (
        _attack("prints the visible output", held_out, prints),
        _attack("knows the visible input", held_out, known),
        _attack("alters the input", held_out | {Defence.RESTORE_TESTS}, copied, more={first: expected, ".answer": expected}),
        _attack(
            "forged reward",
            frozenset({Defence.OUTSIDE_PARSER, Defence.FRESH_BOX}),
            "#!/bin/sh\nexit 0\n",
            control=Control.REWARD_FILE,
            before="".join(write(place, '{"reward": 1.0}') for place in ("/tmp/reward.json", "reward.json")),  # noqa: S108 - in the box
        ),
        _attack(
            "finds the expected output", frozenset(), looking, why="Expected outputs enter no box: what must hold is that it finds none."
        ),
        _attack(
            "tools on PATH",
            frozenset(),
            "#!/bin/sh\nexit 0\n",
            before="".join(FAKE_TOOL.format(tool=tool) for tool in ("cat", "diff", "cmp", "sh")),
            why="No tool of the box compares: what must hold is that replaced ones change nothing.",
        ),
        _attack(
            "waits and writes later",
            frozenset(),
            "#!/bin/sh\n(for i in 1 2 3 4 5; do sleep 1; echo x > /tmp/reward.json; done) > /dev/null 2>&1 &\nexit 0\n",
            why="Nothing of the program lives when its output is taken.",
        ),
        _attack("never ends", frozenset(), "#!/bin/sh\nwhile :; do sleep 1; done\n", why="A limit is kept outside the box."),
        _attack("prints without end", frozenset(), "#!/bin/sh\nyes\n", why="A limit is kept outside the box."),
    )


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

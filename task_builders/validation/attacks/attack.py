"""The data types of attacks."""

import shlex
from collections.abc import Callable
from enum import StrEnum

from envfarm.core.change import Change
from envfarm.core.frozen import Frozen
from envfarm.grading.integrity import Defence
from task_builders.languages.python.stand_ins import ANY_NAME


class Control(StrEnum):
    """How to show that an attack would work without the defences."""

    FRESH = "the change in a fresh box"
    IN_PLACE = "in the agent's own box"
    REWARD_FILE = "a grader that believes a reward file in the box"
    LATER = "a grader that leaves processes alive, and believes a reward file in the box later"
    COMPARED_INSIDE = "a grader that compares the visible case in the box, by a tool on PATH"
    LEAKED = "a box that holds each case's expected output beside its inputs"
    PLAN_FILE = "a grader that reads the plan from the tree"
    NONE = "none"


class Context(Frozen):
    """What the attacker knows: more than an agent would."""

    work_dir: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    test_files: tuple[str, ...]
    source_files: tuple[str, ...]
    """Files that the fix touches, relative to the work dir."""
    site_packages: str
    """Absolute path, in the environment that tests run in."""
    python: str
    """Absolute path of its interpreter."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The touched files that are Python modules: their code runs inside the test process."""
        return tuple(f for f in self.source_files if f.endswith(".py"))

    @property
    def files_of_tests(self) -> tuple[str, ...]:
        """The sealed files and the files of all expected tests."""
        return tuple(sorted({*self.test_files, *(test.split("::", 1)[0] for test in self.ids)}))

    @property
    def ids(self) -> tuple[str, ...]:
        """Every expected test."""
        return self.fail_to_pass + self.pass_to_pass


class Exploit(Frozen):
    """What the scripted agent does."""

    script: str = ""
    """Run by `sh` in the work dir, as the agent."""
    change: Change = Change()
    """Added to the box's own diff: what a tampered diff would contain."""


class Attack(Frozen):
    """One exploit."""

    name: str
    aims: frozenset[Defence]
    """The defences that each stop it; they are switched off together to show that it would work."""
    craft: Callable[[Context], Exploit]
    control: Control = Control.FRESH
    planted: bool = False
    """Whether the control's box contains the solution, later history and a newer release, as a leaking image would."""
    cannot_reach: str = ""
    """Why it cannot gain a reward by its nature, and what must hold instead."""


def write(path: str, text: str, *, append: bool = False) -> str:
    """A shell line that writes a file and creates its directory."""
    folder = path.rpartition("/")[0] or "."
    mark = ">>" if append else ">"
    return f"mkdir -p {shlex.quote(folder)} && printf %s {shlex.quote(text)} {mark} {shlex.quote(path)}\n"


PACKAGES = """find . -name .git -prune -o -name __init__.py -print | grep -v test | while read -r module; do
  printf %s {payload} >> "$module"
done
"""


def into_modules(payload: str) -> Callable[[Context], Exploit]:
    """An exploit that adds code to every module that the fix touches or adds; if there is none, to every package. Tests import it."""

    def craft(context: Context) -> Exploit:
        filled = {"@IDS@": context.ids, "@FILES@": context.files_of_tests, "@DIR@": context.work_dir}
        text = "\n\n" + ANY_NAME + payload
        for name, value in filled.items():
            text = text.replace(name, repr(value))
        script = "".join(write(module, text, append=True) for module in context.modules)
        return Exploit(script=(script or PACKAGES.format(payload=shlex.quote(text))) + "true\n")

    return craft


def stub_tests(context: Context) -> dict[str, str]:
    """Test files with empty tests of all expected ids."""
    files: dict[str, dict[tuple[str, ...], dict[str, list[str | None]]]] = {}
    for test in context.ids:
        file, *classes, name = test.split("[", 1)[0].split("::")
        parameters = test[test.index("[") + 1 : -1] if "[" in test else None
        files.setdefault(file, {}).setdefault(tuple(classes), {}).setdefault(name, []).append(parameters)
    return {
        file: "import unittest\n\nimport pytest\n\n" + "".join(_stub_class(c, t) for c, t in groups.items())
        for file, groups in files.items()
    }


def _stub_class(classes: tuple[str, ...], tests: dict[str, list[str | None]]) -> str:
    # The runner finds some classes by name, others by their base class.
    come_from = "" if any(parameters != [None] for parameters in tests.values()) else "(unittest.TestCase)"
    lines = [f"{'    ' * depth}class {name}{come_from}:\n" for depth, name in enumerate(classes)]
    indent = "    " * len(classes)
    for name, parameters in tests.items():
        own = [
            p.encode("latin-1", "backslashreplace").decode("unicode_escape") for p in parameters if p is not None
        ]  # as the runner escaped them
        arguments = "self, one" if classes and own else "self" if classes else "one" if own else ""
        if own:
            lines.append(f"{indent}@pytest.mark.parametrize('one', {own!r}, ids={own!r})\n")
        lines.append(f"{indent}def {name}({arguments}):\n{indent}    pass\n\n")
    return "".join(lines)

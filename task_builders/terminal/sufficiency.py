"""Whether an instruction and its input files are enough to solve a terminal task, and no more than that. Pure; called by `minting`, and by
`make`, which names the words that the asker's attempts alone tell.

Every instruction shows the visible input with its output, but an example is no rule. Enough is told where the asker says in words what is
wanted, where every word that a program must print stands in its input or in what is said, and where no threshold is known to the reference
program alone. What can be worked out (counts, sums, positions) need not be said.
"""

import re
from collections.abc import Iterable
from decimal import Decimal

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.questions import roles
from task_builders.terminal import giveaways, sought
from task_builders.terminal.giveaways import TO_WRITE

WORD = re.compile(r"[A-Za-z]{3,}")
HASH = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{7,40}\b")
"""Of a commit or a file: it is worked out, and letters in it are no words."""
FENCED = re.compile(r"^```$.*?^```$", re.MULTILINE | re.DOTALL)
"""Data and outputs."""
BLOCK = re.compile(r"```.*?```", re.DOTALL)
INLINE = re.compile(r"`[^`]*`")
SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
NO_VALUES = frozenset({"nan", "none", "null", "true", "false"})
"""What programs write for values that have no words of their own."""
MIN_SAID = 6
"""Different words in the asker's part, its title included."""
TOLD = "the question tells a program that solves it"
UNTOLD = "the example alone holds words that must be printed"
SAYS_TOO_LITTLE = "the question says in words too little of what is wanted"
HIDDEN_THRESHOLD = "a threshold stands in the answer's program alone"
HIDDEN_WORD = "a word that is looked for stands in the answer's program alone"
ASKS_NOTHING = "the question does not say what is wanted"
COUNTED = "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905 - a table for reading
COMMON = frozenset({"0", "1"})
"""Thresholds that mean none, some, or several, which are words without a number."""


def judge(task: Task) -> GateResult:
    """The gate. Its detail is one of few reasons where it is not passed."""
    unmet, thresholds, said = untold(task), hidden_thresholds(task), words_said(task.instruction)
    told, sought_words = giveaways.told(task), hidden_words(task)
    faults = (
        (bool(told), TOLD),
        (said < MIN_SAID, SAYS_TOO_LITTLE),
        (not asks(task.instruction), ASKS_NOTHING),
        (bool(thresholds), HIDDEN_THRESHOLD),
        (bool(sought_words), HIDDEN_WORD),
        (bool(unmet), UNTOLD),
    )
    fault = next((reason for holds, reason in faults if holds), "")
    fine = f"{len(task.plan.cases)} cases ask for no word that is not told; {said} words tell what is wanted"
    evidence = {"unmet": unmet, "thresholds": thresholds, "sought": sought_words, "words": said, "told": told}
    return GateResult(gate=Gate.SUFFICIENCY, passed=not fault, detail=fault or fine, evidence=evidence)


def untold(task: Task) -> dict[str, list[str]]:
    """Cases that want words which nobody tells, and these: when a task is made, such cases are left out."""
    unmet: dict[str, list[str]] = {}
    said = prose(task.instruction) + FENCED.sub("", task.instruction.partition(TO_WRITE)[2])
    for case in task.plan.cases:
        given = [task.tests[f"cases/{case.folder}/input/{path}"].decode() for path in case.inputs]
        if missing := unheard(task.tests[f"cases/{case.folder}/expected"].decode(), given, said):
            unmet[case.id] = missing[:5]
    return unmet


def unheard(output: str, inputs: Iterable[str], said: str) -> list[str]:
    """The words of an output that stand neither in its inputs, also as a part of a word, nor among the words that are said."""
    told = {word.casefold() for word in WORD.findall(said)} | NO_VALUES
    given = " ".join(inputs).casefold()
    return sorted(word for word in {word.casefold() for word in WORD.findall(HASH.sub("", output))} - told if word not in given)


def prose(instruction: str) -> str:
    """The asker's part of an instruction without data, and without messages of programs: these say what went wrong, not what is wanted."""
    asked = BLOCK.sub("\n", instruction.partition(TO_WRITE)[0]).removeprefix("# ")
    told = INLINE.sub(lambda code: "" if roles.is_error(code[0].strip("`")) else code[0], asked)
    return "\n".join(sentence for sentence in SENTENCE.split(told) if not roles.is_error(sentence))


def asks(instruction: str) -> bool:
    """Whether the asker says in a sentence what is wanted."""
    return any(roles.asks(sentence) for sentence in SENTENCE.split(prose(instruction)))


def words_said(instruction: str) -> int:
    """How many different words the asker's part of an instruction has outside of code and data."""
    return len({word.casefold() for word in re.findall(r"[^\W\d_]{2,}", INLINE.sub(" ", prose(instruction)))})


def hidden_words(task: Task) -> list[str]:
    """Words that the reference program looks for, and that no sentence of the asker's holds, also as the beginning of a word."""
    said = prose(task.instruction).casefold()
    found = sought.words(task.solution["program"].decode())
    return sorted(word for word in found if not re.search(rf"(?<![^\W_]){re.escape(word)}" + (r"(?!\d)" if word.isdigit() else ""), said))


def hidden_thresholds(task: Task) -> list[str]:
    """Numbers that the reference program compares with, and that neither the instruction's words nor a visible file hold."""
    shown = {case.folder for case in task.plan.cases if case.visible}
    inputs = [data.decode() for path, data in task.tests.items() if path.split("/")[1] in shown and "/input/" in path]
    said = f"{task.instruction.partition(TO_WRITE)[0]} {' '.join(inputs)}"
    texts = (said, re.sub(r"(?<=\d),(?=\d{3}\b)", "", said))  # a thousand may be written with a comma
    known = {_plain(number) for text in texts for number in re.findall(r"\d+(?:\.\d+)?", text)} | COMMON
    known |= {str(n) for n, word in enumerate(COUNTED) if re.search(rf"\b{word}\b", said, re.IGNORECASE)}
    return sorted({_plain(number) for number in sought.numbers(task.solution["program"].decode())} - known)


def _plain(number: str) -> str:
    """One text for each number: `1000000` for `1e+06`, `2` for `2.0`."""
    return f"{Decimal(number).normalize():f}"

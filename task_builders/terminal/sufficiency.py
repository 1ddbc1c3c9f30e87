"""Whether an instruction and its input files suffice to solve a terminal task without giving it away. Pure.

Every instruction shows the visible input with its output, but an example is not a rule. The instruction suffices if the asker says in words
what is wanted, if every word to be printed occurs in its input or in these words, and if no threshold is known to the reference program
only. What can be worked out (counts, sums, positions) need not be said.
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
"""Hash of a commit or file: it is computed, and letters in it are no words."""
FENCED = re.compile(r"^```$.*?^```$", re.MULTILINE | re.DOTALL)
"""Data and outputs."""
BLOCK = re.compile(r"```.*?```", re.DOTALL)
INLINE = re.compile(r"`[^`]*`")
SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
NO_VALUES = frozenset({"nan", "none", "null", "true", "false"})
"""How programs write values that have no words of their own."""
MIN_SAID = 6
"""Minimum number of different words in the asker's part, title included."""
TOLD = "the question contains a program that solves it"
UNTOLD = "words that must be printed occur only in the example"
SAYS_TOO_LITTLE = "the question describes in too few words what is wanted"
HIDDEN_THRESHOLD = "a threshold occurs only in the answer's program"
HIDDEN_WORD = "a word that is searched for occurs only in the answer's program"
ASKS_NOTHING = "the question does not say what is wanted"
COUNTED = "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905 - a table for reading
COMMON = frozenset({"0", "1"})
"""Thresholds that mean none, some or several, which texts express without a number."""


def judge(task: Task) -> GateResult:
    """The gate's verdict. If it fails, the detail is one of the reasons above."""
    unmet, thresholds, said = untold(task), hidden_thresholds(task), words_said(task.instruction)
    given_away, sought_words = giveaways.in_instruction(task), hidden_words(task)
    faults = (
        (bool(given_away), TOLD),
        (said < MIN_SAID, SAYS_TOO_LITTLE),
        (not asks(task.instruction), ASKS_NOTHING),
        (bool(thresholds), HIDDEN_THRESHOLD),
        (bool(sought_words), HIDDEN_WORD),
        (bool(unmet), UNTOLD),
    )
    fault = next((reason for holds, reason in faults if holds), "")
    fine = f"{len(task.plan.cases)} cases expect only words that are given; {said} words describe what is wanted"
    evidence = {"unmet": unmet, "thresholds": thresholds, "sought": sought_words, "words": said, "told": given_away}
    return GateResult(gate=Gate.SUFFICIENCY, passed=not fault, detail=fault or fine, evidence=evidence)


def untold(task: Task) -> dict[str, list[str]]:
    """Cases that expect words which are given nowhere, with these words. Such cases are left out when a task is made."""
    unmet: dict[str, list[str]] = {}
    said = prose(task.instruction) + FENCED.sub("", task.instruction.partition(TO_WRITE)[2])
    for case in task.plan.cases:
        given = [task.tests[f"cases/{case.folder}/input/{path}"].decode() for path in case.inputs]
        if missing := unheard(task.tests[f"cases/{case.folder}/expected"].decode(), given, said):
            unmet[case.id] = missing[:5]
    return unmet


def unheard(output: str, inputs: Iterable[str], said: str) -> list[str]:
    """The words of an output that occur neither in its inputs (also as parts of words) nor among the words that are said."""
    known = {word.casefold() for word in WORD.findall(said)} | NO_VALUES
    given = " ".join(inputs).casefold()
    return sorted(word for word in {word.casefold() for word in WORD.findall(HASH.sub("", output))} - known if word not in given)


def prose(instruction: str) -> str:
    """The asker's part of an instruction without data and without programs' messages, which say what went wrong, not what is wanted."""
    asked = BLOCK.sub("\n", instruction.partition(TO_WRITE)[0]).removeprefix("# ")
    words = INLINE.sub(lambda code: "" if roles.is_error(code[0].strip("`")) else code[0], asked)
    return "\n".join(sentence for sentence in SENTENCE.split(words) if not roles.is_error(sentence))


def asks(instruction: str) -> bool:
    """Whether a sentence of the asker says what is wanted."""
    return any(roles.asks(sentence) for sentence in SENTENCE.split(prose(instruction)))


def words_said(instruction: str) -> int:
    """The number of different words in the asker's part of an instruction, outside code and data."""
    return len({word.casefold() for word in re.findall(r"[^\W\d_]{2,}", INLINE.sub(" ", prose(instruction)))})


def hidden_words(task: Task) -> list[str]:
    """Words that the reference program searches for and that no sentence of the asker contains, also not as the beginning of a word."""
    said = prose(task.instruction).casefold()
    found = sought.words(task.solution["program"].decode())
    return sorted(word for word in found if not re.search(rf"(?<![^\W_]){re.escape(word)}" + (r"(?!\d)" if word.isdigit() else ""), said))


def hidden_thresholds(task: Task) -> list[str]:
    """Numbers that the reference program compares with and that occur neither in the instruction's words nor in a visible file."""
    shown = {case.folder for case in task.plan.cases if case.visible}
    inputs = [data.decode() for path, data in task.tests.items() if path.split("/")[1] in shown and "/input/" in path]
    said = f"{task.instruction.partition(TO_WRITE)[0]} {' '.join(inputs)}"
    texts = (said, re.sub(r"(?<=\d),(?=\d{3}\b)", "", said))  # thousands may be separated by commas
    known = {_plain(number) for text in texts for number in re.findall(r"\d+(?:\.\d+)?", text)} | COMMON
    known |= {str(n) for n, word in enumerate(COUNTED) if re.search(rf"\b{word}\b", said, re.IGNORECASE)}
    return sorted({_plain(number) for number in sought.numbers(task.solution["program"].decode())} - known)


def _plain(number: str) -> str:
    """A canonical text for each number: `1000000` for `1e+06`, `2` for `2.0`."""
    return f"{Decimal(number).normalize():f}"

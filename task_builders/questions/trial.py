"""Runs the answers' programs in a box, on the asker's own input and on variants of it.

A trial finds out whether the accepted answer prints what is wanted, and what the output must be for which variant. A variant is decided if
another answer's program agrees with the accepted one's. It is also decided if the visible output predicts its output and the program prints
exactly that: words that are replaced in the input are replaced in the output; the pieces of single records make up the whole; another order
gives the same output. The box is closed and thrown away. A program that fails or hangs is a result, not an error.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from envfarm.core.frozen import Frozen
from envfarm.core.plan import Relation
from envfarm.core.protocols import Box
from envfarm.grading import outputs
from task_builders.questions import box_runs, held_out, python_code, records, scripts, wanted
from task_builders.questions.box_runs import Candidate, CommandBox, Job, Run
from task_builders.questions.held_out import Example
from task_builders.questions.independence import another_way, are_independent
from task_builders.questions.joining import ASKER, InputFile, Solution
from task_builders.questions.mutants import mutants
from task_builders.questions.programs import Program
from task_builders.questions.records import Pieces
from task_builders.questions.starting import IN_REPOSITORIES
from task_builders.questions.understanding import Understood
from task_builders.questions.variants import REPEATING, TOKEN, Variant, distinct, of_records, variants
from task_builders.questions.wanted import Asked, Printed, Wanted

VISIBLE = "visible"
MUTATED = "mutated"
UNDECIDED = "the accepted answer prints what is wanted, but the right outputs for other inputs are known in too few cases"
FAILS = "the accepted answer's program fails in the box"
DISAGREE = "no two ways of the answer do the same in a repository, or they do nothing"
PRINTS_OTHERS = "the accepted answer's program prints something else"
GOOD = "enough variants are decided"
TWO_ANSWERS = "two answers agree"
TWO_WAYS = "two ways of one answer agree"
ASKERS = "the asker's own program agrees"
FORETOLD = "foretold by the visible output"
RECORD_BY_RECORD = "foretold record by record"
SAME_LINES = "the visible output's lines"
TAKES_TOO_LONG = "its programs take too long in a trial"
TRIAL_S = 300.0
"""Limit for all runs of a question together, in seconds; a hundred runs of a working program take a few."""
SLOW_S = 2.0
"""If the visible run takes longer (seconds), the program is not run on each record: there may be some hundred."""
MAX_WAYS = 3
WHOLE, DECIMAL = r"-?\d+", r"-?\d+\.\d+"
"""How a number is printed."""
PROGRAMS_TRIED = 3
"""Number of programs of one answer that print what is wanted and are tried on variants; the one that decides most becomes the task's."""


class Decided(Frozen):
    """The output that a variant must have."""

    inputs: tuple[tuple[str, str], ...]
    """Names and texts of its files."""
    output: str
    by: str
    """What decides it: `TWO_ANSWERS`, `TWO_WAYS`, `ASKERS`, `FORETOLD`, `RECORD_BY_RECORD` or `SAME_LINES`; or a writer's words for it."""


class Trial(Frozen):
    """The result of running the answers' programs."""

    runs: tuple[Run, ...]
    reproduced: bool
    """Whether a program prints what is wanted: the accepted answer's, or another answer's if the asker shows the output."""
    answer: int = 0
    """Id of the answer whose program becomes the task's."""
    program: str = ""
    """That program, as an executable file."""
    others: tuple[str, ...] = ()
    """Programs of other answers that print it, too."""
    askers: tuple[str, ...] = ()
    """The asker's own programs that print it."""
    inputs: tuple[tuple[str, str], ...] = ()
    """Names and texts of the visible files."""
    output: str = ""
    """The program's output for these."""
    relation: Relation = "lines"
    frame: bool = False
    """Whether the output is printed from a data frame."""
    witness: str = ""
    fault: str = ""
    """A reason against the task that does not follow from the runs; empty if none."""
    decided: dict[str, Decided] = {}
    mutants: int = 0
    """How many programs with one change print the visible output, too."""
    survivors: tuple[str, ...] = ()
    """The changes of those that print the right output of every decided variant: equivalent programs, or wrong ones that no case shows."""
    undecided: tuple[str, ...] = ()
    """Variants on which answers disagree, or whose output nothing predicts; kept as evidence."""

    @property
    def verdict(self) -> str:
        """A fixed text that tables can count."""
        if self.fault:
            return self.fault
        if self.reproduced:
            return GOOD if self.enough else UNDECIDED
        return FAILS if self.runs and all(r.failed for r in self.runs) else PRINTS_OTHERS

    @property
    def enough(self) -> bool:
        """Whether enough variants are decided (`held_out`)."""
        others = {name: Example(dict(d.inputs), d.output) for name, d in self.decided.items() if d.output.strip()}
        return held_out.are_enough(Example(dict(self.inputs), self.output), others, self.relation)

    @property
    def agreed(self) -> bool:
        """Whether two independent answers agree on all that is decided."""
        return bool(self.others) and all(d.by == TWO_ANSWERS for d in self.decided.values())


async def run(box: Box, understood: Understood, *, within_s: float = TRIAL_S) -> tuple[Understood, Trial]:
    """Run the trial of a question in a box of its own. Returns the first reading that gives a task, else the one that gives most. If its
    programs run longer than `within_s` seconds in total, the question is refused. Raises what the box raises.
    """
    try:
        return await _of_readings(box_runs.Metered(box, within_s), understood)
    except box_runs.TooLong:
        return understood, Trial(runs=(), reproduced=False, fault=TAKES_TOO_LONG)


async def _of_readings(box: CommandBox, understood: Understood) -> tuple[Understood, Trial]:
    tried: list[tuple[Understood, Trial]] = []
    for reading in (understood, *understood.otherwise):
        if reading.state in IN_REPOSITORIES:
            tried.append(await _in_repositories(box, reading))
        else:
            tried.append(await _of_reading(box, reading, understood.solutions[0].answer))
        if tried[-1][1].enough:
            break
    return max(tried, key=lambda each: (each[1].enough, each[1].reproduced))


def _of_frame(own: Candidate, chosen: Wanted) -> bool:
    """Whether a program prints a data frame's table, which is compared by its words."""
    return own.prints_table and chosen.relation == "columns" and len(chosen.text.split("\n", 1)[0].split()) > 1


async def _of_reading(box: CommandBox, understood: Understood, accepted: int) -> tuple[Understood, Trial]:
    """The trial of one reading. If a program prints what is wanted, the reading returned has that program first, with its file names."""
    candidates = [Candidate(s, display) for s in understood.solutions for display in scripts.displays(s)]
    jobs = [Job(VISIBLE, at, each, understood.inputs, understood.output) for at, each in enumerate(candidates)]
    first = await box_runs.runs(box, jobs)
    good = [(c, r) for c, r in zip(candidates, first, strict=True) if not r.failed and r.output.strip()]
    printed = [Printed(c.solution.answer, r.output, c.prints_table) for c, r in good if c.solution.answer != ASKER]
    asked = Asked(understood.words, tuple(each.text for each in understood.inputs))
    chosen = wanted.choose(understood.wanted, printed, accepted, asked)
    if chosen is None:
        return understood, Trial(runs=tuple(first), reproduced=False)
    good = [(c, r) for c, r in good if outputs.same(chosen.text.encode(), r.output.encode(), chosen.relation)]
    answered = [c.solution.answer for c, _ in good if c.solution.answer != ASKER]
    answer = accepted if accepted in answered else answered[0]
    askers = [c for c, _ in good if c.solution.answer == ASKER]
    tried: list[tuple[Understood, Trial]] = []
    for own, visible in [(c, r) for c, r in good if c.solution.answer == answer][:PROGRAMS_TRIED]:
        reading = understood.led_by(own.solution)
        apart = [c for c, _ in good if c.solution.answer not in (answer, ASKER) and are_independent(own.solution, c.solution)]
        others = list({c.solution.answer: c for c in reversed(apart)}.values())
        begun = Trial(
            runs=tuple(first),
            reproduced=True,
            answer=answer,
            program=own.text,
            others=tuple(c.text for c in others),
            askers=tuple(c.solution.program.text for c in askers),
            inputs=tuple(map(tuple, reading.inputs)),
            output=visible.output,
            relation=wanted.in_any_order(visible.output, understood.words) if _of_frame(own, chosen) else chosen.relation,
            frame=own.prints_table,
            witness=chosen.witness,
        )
        same = [c for c, _ in good if c.solution.answer == answer]
        ways = [c for c in same if another_way(own.solution.program.text, c.solution.program.text, own.solution.names)]
        more = [*askers[:1], *ways] if chosen.witness == "asker" else []
        echoes = [c for c, _ in good if c.solution.answer not in (answer, ASKER) and c not in apart][:MAX_WAYS]
        witnesses = (own, *others, *more[:MAX_WAYS], *echoes)
        tried.append((reading, await _decide(box, reading, witnesses, begun, echoes=len(echoes))))
    return max(tried, key=lambda each: (each[1].enough, len(each[1].decided)))


async def _in_repositories(box: CommandBox, understood: Understood) -> tuple[Understood, Trial]:
    """The trial of a question about a repository, by the first way that does something and that another way agrees with."""
    idle = Solution(0, Program("shell", ":\n"), understood.solutions[0].names, understood.solutions[0].texts)
    candidates = [Candidate(each, "itself") for each in (idle, *understood.solutions)]
    made = {VISIBLE: understood.inputs, **{each.name: each.inputs for each in understood.variants}}

    async def tried(names: Sequence[str]) -> dict[str, list[Run]]:
        jobs = [Job(name, at, c, made[name], "", understood.state) for name in names for at, c in enumerate(candidates)]
        every = iter(await box_runs.runs(box, jobs))
        return {name: list(islice(every, len(candidates))) for name in names}

    runs = await tried([VISIBLE])
    shown = _effects(runs[VISIBLE])
    own = next((at for at, text in enumerate(shown) if text and shown.count(text) > 1), None)
    own = None if own and understood.state == "repository" else own  # a way that changes it must be the answer's first
    if own is None:
        return understood, Trial(runs=tuple(runs[VISIBLE][1:]), reproduced=False, fault=DISAGREE)
    runs |= await tried([each for each in made if each != VISIBLE])
    seen = tuple(run for found in runs.values() for run in found[1:])
    done = {name: _effects(found) for name, found in runs.items()}
    agreeing = [at for at, text in enumerate(shown) if text == shown[own]]
    answers = {understood.solutions[at].answer for at in agreeing}
    by = TWO_ANSWERS if len(answers) > 1 else TWO_WAYS
    reading = understood.of_ways([understood.solutions[at] for at in agreeing])
    decided, undecided = dict[str, Decided](), []
    for name in [each for each in made if each != VISIBLE]:
        if (text := done[name][own]) and all(done[name][at] == text for at in agreeing):
            inputs = tuple((each.name, each.text) for each in made[name] if each.name in reading.solutions[0].names)
            decided[name] = Decided(inputs=inputs, output=text, by=by)
        else:
            undecided.append(name)
    return reading, Trial(
        runs=seen,
        reproduced=True,
        answer=reading.solutions[0].answer,
        program=candidates[own + 1].text,
        others=tuple(candidates[at + 1].text for at in agreeing if at != own),
        inputs=tuple(map(tuple, reading.inputs)),
        output=shown[own],
        witness=by,
        decided=decided,
        undecided=tuple(undecided),
    )


def _effects(found: Sequence[Run]) -> list[str]:
    """The results of ways, behind the run of one that does nothing; empty for those that failed or did nothing, too."""
    idle, *ways = found
    return ["" if run.failed or not run.output.strip() or run.output == idle.output else run.output for run in ways]


async def _decide(box: CommandBox, understood: Understood, witnesses: Sequence[Candidate], trial: Trial, *, echoes: int = 0) -> Trial:
    """Decide the outputs of variants. The first witness is the task's own program; the last, `echoes`, are other answers' like it."""
    kept = _kept(understood, witnesses) | (_names_of_columns(understood) if trial.frame else set())
    slow = any(run.seconds > SLOW_S for run in trial.runs if run.output == trial.output)
    pieces = None if slow else await _pieces(box, witnesses[0], understood, trial)
    made = distinct([*(of_records(pieces, kept) if pieces else ()), *variants(understood.inputs, kept)], understood.inputs)
    jobs = [[Job(v.name, at, c, v.inputs, understood.output) for at, c in enumerate(witnesses)] for v in made]
    every = iter(await box_runs.runs(box, [job for each in jobs for job in each]))
    runs, decided, undecided = list(trial.runs), dict[str, Decided](), []
    for variant in made:
        seen = list(islice(every, len(witnesses)))
        runs += seen
        if by := decision(seen, variant, trial, by_records=pieces is not None, echoes=echoes):
            decided[variant.name] = Decided(inputs=tuple(map(tuple, variant.inputs)), output=seen[0].output, by=by)
        else:
            undecided.append(variant.name)
    found = trial.model_copy(update={"runs": tuple(runs), "decided": decided, "undecided": tuple(undecided)})
    return found if slow or not found.enough else await _with_mutants(box, witnesses[0], understood, found)


async def _with_mutants(box: CommandBox, own: Candidate, understood: Understood, trial: Trial) -> Trial:
    """The trial with what its cases do not tell apart (`mutants`)."""
    changed = {what: replace(own, solution=replace(own.solution, program=each)) for what, each in mutants(own.solution.program).items()}

    async def passing(cases: Mapping[str, Decided], among: Sequence[str]) -> list[str]:
        asked = [(name, what) for name in cases for what in among]
        at = {what: n for n, what in enumerate(among)}
        inputs = {name: tuple(InputFile(*one) for one in each.inputs) for name, each in cases.items()}
        jobs = [Job(f"{MUTATED} {name}", at[what], changed[what], inputs[name], understood.output) for name, what in asked]
        wrong = {
            what
            for (name, what), run in zip(asked, await box_runs.runs(box, jobs), strict=True)
            if run.failed or not outputs.same(cases[name].output.encode(), run.output.encode(), trial.relation)
        }
        return [what for what in among if what not in wrong]

    alike = await passing({VISIBLE: Decided(inputs=trial.inputs, output=trial.output, by=trial.witness)}, list(changed))
    left = await passing(trial.decided, alike)
    return trial.model_copy(update={"mutants": len(alike), "survivors": tuple(left)})


def _kept(understood: Understood, witnesses: Sequence[Candidate]) -> set[str]:
    """The words that variants must not change: programs name them, or the asker's words do, which a reader may take literally."""
    relevant = [s for s in understood.solutions if s.answer != ASKER or any(each.solution == s for each in witnesses)]
    named = (python_code.named(s.program.text) if s.program.kind == "python" else s.program.text for s in relevant)
    return {token for text in (*named, understood.plain_words) for token in TOKEN.findall(text)}


def _names_of_columns(understood: Understood) -> set[str]:
    """The words of the tables' headers: names are no values, and a reader may take them literally."""
    return {token for each in understood.inputs for token in TOKEN.findall(each.text.partition("\n")[0])}


async def _pieces(box: CommandBox, own: Candidate, understood: Understood, trial: Trial) -> Pieces | None:
    """The output of each record, if the visible output is made up of these."""
    for reading in records.readings(understood.inputs):
        jobs = [Job(f"record-{n}", 0, own, reading.of([n]), understood.output) for n in range(len(reading.parts))]
        seen = await box_runs.runs(box, jobs)
        printed = [each.output for each in seen]
        if not any(each.failed for each in seen) and (found := records.pieces(reading, printed, trial.output, trial.relation)):
            return found
    return None


def decision(found: Sequence[Run], variant: Variant, trial: Trial, *, by_records: bool, echoes: int = 0) -> str:
    """What decides a variant; empty if nothing does. The first run is that of the task's own program. The last ones, `echoes`, can only
    contradict: an equal program of another answer says nothing by agreeing.
    """
    accepted, *voices = found[: len(found) - echoes]
    others = any(run.answer not in (accepted.answer, ASKER) for run in voices)
    if accepted.failed or not accepted.output.strip() or not _in_form(accepted.output, trial):
        return ""

    def as_accepted(text: str) -> bool:
        return outputs.same(text.encode(), accepted.output.encode(), trial.relation)

    agreeing = [run for run in voices if not run.failed and as_accepted(run.output)]
    is_contradicted = any(not run.failed and not as_accepted(run.output) for run in found)
    foretold = variant.foretold or str
    is_foretold = variant.foretold is not None and not variant.copies and as_accepted(foretold(trial.output))
    repeats_keys = trial.frame and variant.name in REPEATING  # rows may be looked up by a key, and no example shows two rows of one key
    is_open = (repeats_keys and not others) or (not is_foretold and _overlaps(accepted.output, variant, trial))
    if is_open or is_contradicted:
        return ""
    if others:
        return TWO_ANSWERS if any(run.answer not in (accepted.answer, ASKER) for run in agreeing) else ""
    if is_foretold:
        return RECORD_BY_RECORD if variant.of_records else FORETOLD
    order_is_known = variant.copies != 1 or not _may_follow(trial)
    if order_is_known and variant.copies and not by_records and any(as_accepted(foretold(t)) for t in _copied(trial, variant.copies)):
        return SAME_LINES
    by_asker = any(run.answer == ASKER for run in agreeing)
    return "" if not agreeing else ASKERS if by_asker else TWO_WAYS


def _overlaps(output: str, variant: Variant, trial: Trial) -> bool:
    """Whether parts of an output overlap that the visible output keeps apart, because the input has fewer lines: it repeats lines more
    often than the input has them. "The first two and the last two" of three lines is an example.
    """
    shown = [text for _, text in trial.inputs]
    changed = [each.text for each in variant.inputs]
    fewer = sum(text.count("\n") for text in changed) < sum(text.count("\n") for text in shown)
    return fewer and _repeats(output, changed) > _repeats(trial.output, shown)


def _repeats(output: str, inputs: Sequence[str]) -> int:
    """How much more often an output has a line than the inputs that contain it; 0 if no line does."""
    given = Counter(" ".join(line.split()) for text in inputs for line in text.splitlines())
    found = Counter(" ".join(line.split()) for line in output.splitlines())
    return max((count - given[line] for line, count in found.items() if line and line in given), default=0)


def _may_follow(trial: Trial) -> bool:
    """Whether the visible output's lines stand in an input, in their order: then nothing shows whether they follow it in another one."""
    lines = [" ".join(line.split()) for line in outputs.lines(trial.output) if line.strip()]
    if trial.relation == "table" or len(set(lines)) < 2:  # noqa: PLR2004 - one line has no order
        return False
    found = [re.compile(rf"(?<!\w){re.escape(line)}(?!\w)") for line in lines]
    for _, text in trial.inputs:
        shown = " ".join(text.split())
        places = [match.start() for each in found if (match := each.search(shown))]
        if len(places) == len(lines) and places == sorted(places):
            return True
    return False


def _in_form(text: str, trial: Trial) -> bool:
    """Whether an output has the visible one's form, so that it can be compared as the agent is told.

    By the relation `table` it is a table, with an index if the visible one has one. Cells of two words would make another table or none,
    and then order would count after all. A data frame whose rows each have a word for every column must not have cells that are empty or
    of several words, nor be empty, nor have whole numbers where the visible one has decimals: a library chooses how these are printed.
    """
    if trial.relation == "table":
        shown, found = outputs.table(trial.output), outputs.table(text)
        if found is None or (shown is not None and ("" in found[0]) != ("" in shown[0])):
            return False
    if not trial.frame or trial.relation not in ("columns", "rows", "table"):
        return True
    more = _more_words_than_names(trial.output)
    is_regular = len(more) > 1 or _more_words_than_names(text) == more
    forms = zip(_number_forms(trial.output), _number_forms(text), strict=False)
    return is_regular and not text.startswith(records.NO_ROWS) and all(set(pair) != {WHOLE, DECIMAL} for pair in forms)


def _more_words_than_names(table: str) -> set[int]:
    """By how many words the rows of a table exceed its header; of a regular one this is one number: 0, or 1 for an index."""
    head, *rows = [len(line.split()) for line in outputs.lines(table)] or [0]
    return {row - head for row in rows}


def _number_forms(table: str) -> list[str]:
    """For each column of a table `WHOLE` or `DECIMAL`, if it has such numbers alone, else empty."""
    _, *rows = [line.split() for line in outputs.lines(table)] or [[]]
    columns = [[cell for cell in column if cell != "NaN"] for column in zip(*rows, strict=False)]
    return [next((form for form in (WHOLE, DECIMAL) if column and all(re.fullmatch(form, c) for c in column)), "") for column in columns]


def _copied(trial: Trial, copies: int) -> tuple[str, str]:
    """The visible output with each line `copies` times; and the same with its first line once."""
    lines = outputs.lines(trial.output)
    head, rest = lines[:1], [line for line in lines[1:] for _ in range(copies)]
    return "".join(f"{line}\n" for line in [*(head * copies), *rest]), "".join(f"{line}\n" for line in [*head, *rest])

"""What was minted, why it is valid, and why the rest is not: cards and the table of yield, as values and as Markdown. Pure.

Called by `envfarm tasks report` and at the end of a build. Reads reports and journals that it is given; it makes no judgement of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.task import Task
from envfarm.core.validation import Cost, ValidationReport, grading_in_words
from task_builders.environment_attempts import Attempt
from task_builders.journal import Finished, ItemFailed, ItemRejected, ItemValid
from task_builders.validation import cost, flakes

SHOWN_FLAKES = 10
SHOWN_SKIPPED = 10
MIB = 1 << 20


class YieldRow(Frozen):
    """One repository's yield."""

    repository: str
    records: int
    candidates: int
    set_up: int
    valid: int
    unchecked: int
    """Tasks that were spared a gate."""
    failed: int
    """Kept from a verdict by the infrastructure."""
    minutes_per_task: float | None
    """Everything spent on candidates of this repository, over its valid tasks."""
    own_mib_per_task: float | None
    layer_mib: float
    """Of the largest shared layer."""


class Rejected(Frozen):
    """How often a reason occurred."""

    repository: str
    gate: str
    reason: str
    count: int


class TryRow(Frozen):
    """What came of the tries of recipes that began at one place."""

    language: str
    sandbox: str
    rung: str
    tries: int
    works: int
    lock: int
    build: int
    tests: int
    """Failed at locking, building, running the suite."""
    minutes: float
    layer_mib: float
    """Of layers that these tries made."""


class RecordRow(Frozen):
    """What became of one record."""

    url: str
    title: str
    project: str
    source_digest: Digest
    fate: Literal["valid", "unchecked", "rejected", "not judged"]
    task: str = ""
    """The name of the task that it became."""
    gate: str = ""
    """Where it was rejected."""
    reason: str = ""
    """Why it is not a valid task."""
    detail: str = ""
    evidence: dict[str, Any] = {}


class Yield(Frozen):
    """What builds came to."""

    rows: tuple[YieldRow, ...]
    rejected: tuple[Rejected, ...]
    tries: tuple[TryRow, ...] = ()

    @property
    def total(self) -> YieldRow:
        """All repositories together."""
        return _sum(self.rows)


def yield_of(finished: Iterable[Finished], failed: Iterable[ItemFailed] = ()) -> Yield:
    """Count what became of every record."""
    by_project: dict[str, list[Finished]] = defaultdict(list)
    failures = Counter(item.project for item in failed)
    for item in finished:
        by_project[item.project].append(item)
    names = sorted({*by_project, *failures})
    rows = tuple(_project_row(name, by_project.get(name, []), failures[name]) for name in names)
    reasons = Counter(
        (i.project, i.rejection.gate.value, i.rejection.reason)
        for items in by_project.values()
        for i in items
        if isinstance(i, ItemRejected)
    )
    ranked = sorted(reasons.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0][1:]))
    return Yield(rows=rows, rejected=tuple(Rejected(repository=r, gate=g, reason=why, count=n) for (r, g, why), n in ranked))


def record_row(item: Finished | ItemFailed) -> RecordRow:
    """What became of the record of an entry."""
    whose = {"title": item.title, "project": item.project, "source_digest": item.source_digest}
    match item:
        case ItemValid():
            left_out = f"left out: {', '.join(item.not_asked)}" if item.not_asked else ""
            return RecordRow(**whose, url=item.url, fate="unchecked" if left_out else "valid", task=item.task_name, reason=left_out)
        case ItemRejected(rejection=why):
            told = {"gate": why.gate.value, "reason": why.reason, "detail": why.detail, "evidence": why.evidence}
            return RecordRow(**whose, url=why.url, fate="rejected", **told)
        case ItemFailed():
            return RecordRow(**whose, url=item.url, fate="not judged", reason=item.error, detail=item.hint)


def tries_of(attempts: Iterable[Attempt]) -> tuple[TryRow, ...]:
    """Count tries by language, sandbox and where the search began; repairs count with the rung that they followed on."""
    grouped: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        grouped[(attempt.language, attempt.sandbox, attempt.rung)].append(attempt)
    return tuple(_try_row(*key, group) for key, group in sorted(grouped.items()))


def _try_row(language: str, sandbox: str, rung: str, group: Sequence[Attempt]) -> TryRow:
    results = Counter(attempt.result for attempt in group)
    return TryRow(
        language=language,
        sandbox=sandbox,
        rung=rung,
        tries=len(group),
        works=results["works"],
        lock=results["lock"],
        build=results["build"],
        tests=results["tests"],
        minutes=round(sum(attempt.seconds for attempt in group) / 60, 1),
        layer_mib=round(sum(attempt.layer_bytes for attempt in group if not attempt.layer_reused) / MIB, 1),
    )


def _project_row(name: str, items: Sequence[Finished], failed: int) -> YieldRow:
    tasks = [i for i in items if isinstance(i, ItemValid)]
    valid = [i for i in tasks if not i.not_asked]
    reached = Counter("valid" if isinstance(i, ItemValid) else i.reached for i in items)
    minutes = sum(i.seconds for i in items) / 60
    return YieldRow(
        repository=name,
        records=len(items) + failed,
        candidates=len(items) - reached["record"] + failed,
        set_up=reached["set up"] + reached["valid"],
        valid=len(valid),
        unchecked=len(tasks) - len(valid),
        failed=failed,
        minutes_per_task=round(minutes / len(valid), 2) if valid else None,
        own_mib_per_task=round(sum(cost.own_mib(i.cost) for i in valid) / len(valid), 2) if valid else None,
        layer_mib=round(max((i.cost.layer_bytes for i in items), default=0) / MIB, 1),
    )


def _sum(rows: Sequence[YieldRow]) -> YieldRow:
    valid = sum(r.valid for r in rows)
    minutes = sum((r.minutes_per_task or 0) * r.valid for r in rows)
    mib = sum((r.own_mib_per_task or 0) * r.valid for r in rows)
    return YieldRow(
        repository="all",
        records=sum(r.records for r in rows),
        candidates=sum(r.candidates for r in rows),
        set_up=sum(r.set_up for r in rows),
        valid=valid,
        unchecked=sum(r.unchecked for r in rows),
        failed=sum(r.failed for r in rows),
        minutes_per_task=round(minutes / valid, 2) if valid else None,
        own_mib_per_task=round(mib / valid, 2) if valid else None,
        layer_mib=round(sum(r.layer_mib for r in rows), 1),
    )


UNGUARDED = " Its tests have no canary: a forged report would not be detected."
YIELD_COLUMNS = ("repository", "records", "candidates", "set up", "valid", "unchecked", "not judged", "min/task", "MiB/task", "layer MiB")


def yield_rows(found: Yield) -> list[tuple[object, ...]]:
    """The table of yield, the sum last."""
    rows = [*found.rows, found.total] if len(found.rows) > 1 else list(found.rows)
    return [tuple("–" if v is None else v for v in row.model_dump().values()) for row in rows]


REJECTED_COLUMNS = ("repository", "gate", "reason", "records")


def rejected_rows(found: Yield) -> list[tuple[object, ...]]:
    """The table of reasons."""
    return [tuple(row.model_dump().values()) for row in found.rejected]


RECORD_COLUMNS = ("record", "title", "became", "why")


def record_rows(found: Iterable[RecordRow]) -> list[tuple[object, ...]]:
    """The table of records."""
    became = {
        "valid": "task {0.task}",
        "unchecked": "unchecked task {0.task}",
        "rejected": "rejected at {0.gate}",
        "not judged": "not judged",
    }
    return [(row.url, row.title, became[row.fate].format(row), row.reason.partition("\n")[0]) for row in found]


TRY_COLUMNS = ("language", "sandbox", "began with", "tries", "work", "lock", "build", "tests", "minutes", "MiB made")


def try_rows(found: Yield) -> list[tuple[object, ...]]:
    """The table of tries."""
    return [tuple(row.model_dump().values()) for row in found.tries]


def card(task: Task, report: ValidationReport) -> dict[str, Any]:
    """Everything that makes one task trustworthy, as a JSON value."""
    plan = task.plan
    return {
        "name": task.name,
        "digest": report.task,
        "provider": report.provider,
        "validated_at": report.created_at.isoformat(),
        "valid": report.passed,
        "not_asked": [gate.value for gate in report.missing],
        "source": task.attribution.url,
        "licence": task.attribution.licence,
        "mode": plan.mode,
        "graded": grading_in_words(plan),
        "narrow": report.narrow,
        "fail_to_pass": list(plan.fail_to_pass),
        "pass_to_pass": len(plan.pass_to_pass),
        "skipped": {s.id: s.reason for s in plan.skipped},
        "canaries": dict(Counter("unaltered" if c.unaltered else c.kind for c in plan.canaries)),
        "gates": [g.model_dump(mode="json") for g in report.gates],
        "flakes": {f.id: flakes.in_words(f) for f in report.flakes},
        "attacks": [a.model_dump(mode="json") for a in report.attacks],
        "gold": list(report.gold),
        "nop": list(report.nop),
        "leak_proof": report.leak_proof,
        "variations": [{"state": r.state, "repeat": r.repeat, "seconds": r.seconds, **r.variation} for r in report.runs],
        "cost": report.cost.model_dump(mode="json"),
        "environment": report.environment_digest,
    }


def card_markdown(task: Task, report: ValidationReport) -> str:
    """A card for people."""
    plan, spent = task.plan, report.cost
    canaries = Counter("unaltered" if c.unaltered else c.kind for c in plan.canaries)
    parts = [
        f"## {task.name}\n",
        f"{report.in_words} in `{report.provider}` boxes, {report.created_at:%Y-%m-%d %H:%M} UTC · `{report.task}`  ",
        f"from {task.attribution.url} · {task.attribution.licence}{f' · {task.attribution.author}' if task.attribution.author else ''}\n",
        f"**Why it can be believed.** {_why(task, report)}\n",
        table_markdown(
            ("gate", "passed", "what was seen"), [(g.gate.value, "yes" if g.passed else "**no**", g.detail) for g in report.gates]
        ),
        (
            f"\n**Tests.** {len(plan.fail_to_pass)} fail before the fix and pass with it, {len(plan.pass_to_pass)} pass before and "
            f"with it, {len(plan.skipped)} are left out. Canaries: {canaries['inverted']} inverted, "
            f"{canaries['renamed']} renamed, {canaries['unaltered']} unaltered. "
            f"Graded {grading_in_words(plan)}; {report.graded_in_words}.\n"
        ),
        *(f"- `{test}`" for test in plan.fail_to_pass[:SHOWN_SKIPPED]),
        *([f"\n**Left out.** {_left_out(task)}\n"] if plan.skipped else []),
        *(
            [f"\n**Flakes.** {'; '.join(f'`{f.id}` {flakes.in_words(f)}' for f in report.flakes[:SHOWN_FLAKES])}\n"]
            if report.flakes
            else []
        ),
        *([_attacks(report)] if report.attacks else []),
        (
            f"\n**Cost.** layer {spent.build_s:.0f} s{' (was there)' if spent.layer_reused else ''}, "
            f"{spent.layer_bytes / MIB:.1f} MiB shared; "
            f"checkout {spent.checkout_bytes / MIB:.2f} MiB own; checks {spent.validate_s:.0f} s; one grading {spent.verify_s:.1f} s"
            f"{_of_writer(spent)}.\n"
        ),
    ]
    return "\n".join(parts)


def _why(task: Task, report: ValidationReport) -> str:
    gold = sum(reward == 1.0 for reward in report.gold)
    nop = sum(reward == 0.0 for reward in report.nop)
    repeats = max((run.repeat for run in report.runs), default=-1) + 1
    words = [f"the solution scored 1 in {gold} of {len(report.gold)} gradings and doing nothing 0 in {nop} of {len(report.nop)}"]
    if repeats:
        words.append(f"each expected test said the same in {repeats} fresh offline boxes of each state")
    if report.attacks:
        words.append(f"{sum(a.reward == 0.0 for a in report.attacks)} of {len(report.attacks)} exploits scored 0")
    text = "; ".join(words) + "."
    return text[0].upper() + text[1:] + ("" if task.plan.canaries or task.plan.cases else UNGUARDED)


def _of_writer(spent: Cost) -> str:
    """What its language model took, if a task has one."""
    return f"; {spent.writer_model}: {spent.prompt_tokens} + {spent.completion_tokens} tokens" if spent.writer_model else ""


def _left_out(task: Task) -> str:
    reasons = Counter(s.reason for s in task.plan.skipped)
    return "; ".join(f"{n} {why}" for why, n in reasons.most_common(SHOWN_SKIPPED))


def _attacks(report: ValidationReport) -> str:
    rows = [(a.attack, _number(a.reward), _number(a.reward_undefended), a.defence) for a in report.attacks]
    return "\n" + table_markdown(("attack", "score", "without the defence", "defence"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def table_markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows)])


def yield_markdown(found: Yield) -> str:
    """The yield for people."""
    parts = ["# Yield\n", table_markdown(YIELD_COLUMNS, yield_rows(found))]
    if found.rejected:
        parts += ["\n## Why the other records are not tasks\n", table_markdown(REJECTED_COLUMNS, rejected_rows(found))]
    if found.tries:
        parts += ["\n## Attempts at recipes, and where they failed\n", table_markdown(TRY_COLUMNS, try_rows(found))]
    return "\n".join(parts) + "\n"

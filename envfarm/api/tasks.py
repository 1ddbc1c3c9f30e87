"""`/v1/tasks`: what there is to train on. Never a solution, never a sealed test."""

from collections import Counter
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from envfarm.api.access import Farm, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.api.cursors import COUNT, decode, encode
from envfarm.core import difficulty
from envfarm.core.errors import NotFound, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.listing import TaskDetail, TaskInfo, TaskPage
from envfarm.core.rollout import TaskSelector, Text
from envfarm.core.validation import AttackResult, Cost, Flake, GateResult, ValidationReport
from envfarm.stores.catalogue_lookup import OVER_HTTP, TaskRow
from envfarm.stores.rollout_results import PassRate

router = APIRouter(route_class=PlainJson, prefix="/v1/tasks", tags=["tasks"], dependencies=[scope("tasks")])
PAGE = 1000


class RunCount(Frozen):
    """One run of the suite in one state, as numbers: its log may show what is sealed."""

    state: str
    repeat: int
    seconds: float
    statuses: dict[str, int]


class ReportView(Frozen):
    """What was seen when the task went through the gates, in one provider's boxes."""

    provider: str
    created_at: datetime
    standing: str
    in_words: str
    gates: tuple[GateResult, ...]
    """Without evidence for tokens that lack the scope `admin`: it may quote the solution."""
    attacks: tuple[AttackResult, ...]
    flakes: tuple[Flake, ...]
    runs: tuple[RunCount, ...]
    cost: Cost


class TaskQuery(TaskSelector):
    """A selector as a query, and where its list goes on."""

    names: tuple[Text, ...] = Field(default=(), max_length=16)
    """More of them fit into the body of `POST /v1/tasks/select`: servers refuse addresses of more than 64 KiB."""
    cursor: str = Field(default="", max_length=200)


@router.get("")
async def listed(farm: Farm, who: Who, asked: Annotated[TaskQuery, Query()]) -> TaskPage:
    """Select tasks, page by page. With `limit` and `seed` it is a draw that can be repeated."""
    wanted = TaskSelector.model_validate(asked.model_dump(exclude={"cursor"}))
    return await page(farm, who, wanted, asked.cursor)


@router.post("/select")
async def select(farm: Farm, who: Who, wanted: TaskSelector, cursor: Annotated[str, Query(max_length=200)] = "") -> TaskPage:
    """The same with the selector as a body, as rollouts take it, and page by page."""
    return await page(farm, who, wanted, cursor)


@router.get("/{task:path}/reports")
async def reports(farm: Farm, who: Who, task: str) -> tuple[ReportView, ...]:
    """How one task was validated, by provider."""
    row = await _found(farm, task)
    return tuple(report_view(r, whole="admin" in who.scopes) for r in await farm.catalogue.reports(row.digest))


@router.get("/{task:path}")
async def get(farm: Farm, who: Who, task: str) -> TaskDetail:
    """One task, by name or digest or the unique beginning of one."""
    row = await _found(farm, task)
    found = await farm.catalogue.get(row.digest)
    rates = await farm.results.pass_rates(who.tenant, [row.digest])
    known = info(row, rates.get(row.digest)).model_dump()
    told = {"instruction": found.instruction, "limits": found.limits, "work_dir": found.plan.work_dir}
    return TaskDetail(**known, **told, difficulty=difficulty.estimate(found))


async def page(farm: Farm, who: Who, wanted: TaskSelector, cursor: str) -> TaskPage:
    """Some of what a selector means."""
    start = decode(COUNT, cursor, 0)
    behind = start + PAGE
    rows = await farm.rollouts.choose(who.tenant, wanted)
    shown = rows[start:behind]
    rates = await farm.results.pass_rates(who.tenant, [row.digest for row in shown])
    items = tuple(info(row, rates.get(row.digest)) for row in shown)
    return TaskPage(items=items, total=len(rows), next=encode(behind) if behind < len(rows) else None)


def info(row: TaskRow, rate: PassRate | None) -> TaskInfo:
    """A row of the catalogue, as a tenant sees it."""
    shown = row.model_dump(include=set(TaskInfo.model_fields))
    return TaskInfo(**shown, scored=rate.scored if rate else 0, pass_rate=rate.mean if rate else None)


def report_view(report: ValidationReport, *, whole: bool) -> ReportView:
    """A report without what is sealed; `whole` with the gates' evidence."""
    gates = report.gates if whole else tuple(gate.model_copy(update={"evidence": {}}) for gate in report.gates)
    runs = tuple(RunCount(state=r.state, repeat=r.repeat, seconds=r.seconds, statuses=Counter(r.statuses.values())) for r in report.runs)
    shown = report.model_dump(include={"provider", "created_at", "attacks", "flakes", "cost"})
    return ReportView(**shown, standing=report.standing, in_words=report.in_words, gates=gates, runs=runs)


async def _found(farm: Farm, task: str) -> TaskRow:
    try:
        return await farm.catalogue.find(task, hint=OVER_HTTP)
    except UsageError as e:
        raise NotFound(str(e), hint=e.hint) from e

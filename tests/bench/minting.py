"""Minutes and MiB per minted task: the first of a repository, which makes the shared layer, and the second. Read from the catalogue."""

from collections import defaultdict

from envfarm.core.validation import Cost, ValidationReport
from envfarm.stores.catalogue_lookup import TaskFilter
from task_builders.validation import cost
from tests.bench.machine import Bench
from tests.bench.measure import Row

MIB = 1 << 20


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    spent: dict[str, list[ValidationReport]] = defaultdict(list)
    for task in await bench.farm.catalogue.rows(TaskFilter(state="valid")):
        reports = await bench.farm.catalogue.reports(task.digest)
        if reports:
            spent[task.repository].append(min(reports, key=lambda report: report.created_at))
    ordered = [sorted(reports, key=lambda report: report.created_at) for reports in spent.values()]
    firsts = [reports[0].cost for reports in ordered]
    seconds = [reports[1].cost for reports in ordered if len(reports) > 1]
    if not firsts:
        return [Row("minutes per minted task", "min", beside="the catalogue holds no valid task: `make build-tasks SOURCES=…` mints some")]
    beside = "the first of its repository"
    # A candidate that became no task may have made the layer; a repository needs it all the same.
    first_mib = [_mib(each.model_copy(update={"layer_reused": False})) for each in firsts]
    return [
        Row("minted task, first of a repository", "min", _minutes(firsts)),
        Row("minted task, second of a repository", "min", _minutes(seconds), beside, _minutes(firsts)),
        Row("minted task, first of a repository, with its layer", "MiB", first_mib),
        Row("minted task, second of a repository", "MiB", [_mib(each) for each in seconds], beside, first_mib),
        Row("one grading of the solution", "s", [each.verify_s for each in (*firsts, *seconds)]),
    ]


def _minutes(costs: list[Cost]) -> list[float]:
    return [cost.seconds(each) / 60 for each in costs]


def _mib(spent: Cost) -> float:
    """What the task added to the disk."""
    return cost.own_mib(spent) + (0 if spent.layer_reused else spent.layer_bytes / MIB)

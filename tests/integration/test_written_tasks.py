"""Questions that the rules reject, minted with a writer's help in real boxes; the writer is an endpoint that answers a script."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from envfarm.core.candidate import Gate
from envfarm.policies.chat_client import RetryPolicy
from envfarm.settings import read
from envfarm.testing.chat_server import ChatServer, Line, chat_server
from envfarm.testing.question_dump import answer as answer_row
from envfarm.testing.question_dump import question as question_row
from envfarm.testing.question_dump import table
from envfarm.wiring import Farm
from task_builders import report, workbench
from task_builders.journal import ItemRejected, ItemValid, Journal
from task_builders.minting import Rules
from task_builders.pipeline import BuildResult, Pipeline
from task_builders.questions.trial import PRINTS_OTHERS
from task_builders.sources.source_models import StackexchangeDumpSource
from task_builders.stages import Reach, named_source
from task_builders.writing import minting, trial
from task_builders.writing.writer import ChatWriter
from tests.unit.questions.asked import ASKED, pre
from tests.unit.writing.proposals import BY_NUMBER, FRUIT, GOOD, answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TITLE = "How do I order my stock by the counts in its second column?"
BODY = f"<p>My stock is {FRUIT!r}, and I want the least first.</p>"
RULES = "the question has no block of code"
DISAGREEING = {**GOOD, "programs": [GOOD["programs"][0], {"language": "shell", "text": "printf 'fig 2\\npear 3\\napple 10\\n'\n"}]}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory outside pytest's own: boxes of other users must be able to see the layers."""
    with TemporaryDirectory(prefix="envfarm-test-", dir="/var/tmp", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


def dumped(folder: Path, rows: Sequence[Mapping[str, object]]) -> StackexchangeDumpSource:
    folder.mkdir(exist_ok=True)
    (folder / "Posts.xml").write_text(table(rows), encoding="utf-8")
    return StackexchangeDumpSource(path=str(folder))


@pytest.fixture
def dump(tmp_path: Path) -> StackexchangeDumpSource:
    rows = [
        question_row(1, accepted=2, Title=TITLE, Body=BODY, ContentLicense="CC BY-SA 4.0"),
        answer_row(2, 1, Body=f"<p>Like this:</p>{pre('sort -n -k2 stock')}", ContentLicense="CC BY-SA 3.0"),
        answer_row(3, 1, Body="<p>Or with awk.</p>", ContentLicense="CC BY-SA 4.0"),
    ]
    return dumped(tmp_path, rows)


@pytest.fixture
async def farm(home: Path) -> AsyncIterator[Farm]:
    async with Farm(read().model_copy(update={"home": home})) as opened:
        yield opened


async def build(
    farm: Farm, source: StackexchangeDumpSource, script: Sequence[Line] = (), name: str = "one"
) -> tuple[BuildResult, ChatServer]:
    """A build with its own journal; without a writer if there is no script."""
    stages = await workbench.stages(farm, "local", boxes=2, rules=Rules(repeats=2))
    reach = Reach(profile=stages.intake.profile, directory=farm.settings.sources, github_token="", index_url="", told=print)
    async with chat_server(script) as server, httpx.AsyncClient() as http:
        if script:
            retry = RetryPolicy(tries=2, first_wait_s=0, longest_wait_s=0)
            stages.writer = ChatWriter(http, server.base_url, "made-up-1", tokens=1_000_000, retry=retry)
        with Journal(farm.settings.sources / f"{name}.jsonl") as journal:
            pipeline = Pipeline(stages, farm.catalogue, journal, provider="local", watch=print)
            result = await pipeline.run([named_source(source, reach)])
    return result, server


def only_rejection(result: BuildResult) -> ItemRejected:
    (item,) = result.finished
    assert isinstance(item, ItemRejected)
    return item


async def test_a_proposal_that_passes_every_gate_becomes_a_task(farm: Farm, dump: StackexchangeDumpSource) -> None:
    result, _ = await build(farm, dump, [answer(GOOD, prompt_tokens=900, completion_tokens=500)])
    (item,) = result.finished
    assert isinstance(item, ItemValid), item
    task = await farm.catalogue.get(item.task)
    (seen,) = await farm.catalogue.reports(item.task)
    assert seen.passed
    assert (seen.cost.writer_model, seen.cost.prompt_tokens, seen.cost.completion_tokens) == ("made-up-1", 900, 500)
    setup = next(gate for gate in seen.gates if gate.gate is Gate.SETUP)
    assert setup.evidence["writer"]["rules"] == RULES
    assert setup.evidence["writer"]["prompt"].startswith("sha256:")
    assert set(setup.evidence["decided"].values()) == {trial.BY_WRITER}
    assert task.instruction.startswith(f"# {GOOD['title']}\n\n{GOOD['instruction']}\n\n`stock.txt`:\n")
    assert BY_NUMBER in task.instruction
    assert "made-up-1 wrote" in task.attribution.changes
    assert task.attribution.licence == "CC-BY-SA-4.0 AND CC-BY-SA-3.0"
    assert task.attribution.author.count("answer, ") == 2
    assert "made-up-1: 900 + 500 tokens" in report.card_markdown(task, seen)


async def test_what_makes_no_task_is_rejected_with_what_the_writer_did(farm: Farm, dump: StackexchangeDumpSource) -> None:
    alone = only_rejection((await build(farm, dump, name="alone"))[0])
    assert (alone.rejection.reason, alone.rejection.evidence, alone.reached) == (RULES, {}, "record")

    apart = only_rejection((await build(farm, dump, [answer(DISAGREEING, prompt_tokens=9, completion_tokens=5)], "apart"))[0])
    assert (apart.rejection.gate, apart.rejection.reason) == (Gate.SETUP, trial.TOO_FEW)
    assert "other input 1" in apart.rejection.evidence["undecided"]
    assert apart.rejection.evidence["writer"]["model"] == "made-up-1"
    assert (apart.cost.prompt_tokens, apart.cost.completion_tokens) == (9, 5)

    wrong, server = await build(farm, dump, [answer("{", prompt_tokens=9, completion_tokens=5)], "wrong")
    item = only_rejection(wrong)
    assert (item.rejection.gate, item.rejection.reason) == (Gate.CANDIDATE, minting.NOT_VALID)
    assert "Invalid JSON" in item.rejection.detail
    assert (len(server.requests), item.cost.prompt_tokens) == (2, 18)

    refusal = only_rejection((await build(farm, dump, [answer({"refusal": "it is an opinion"})], "refusal"))[0])
    assert (refusal.rejection.reason, refusal.rejection.evidence["writer"]["refusal"]) == (RULES, "it is an opinion")


async def test_the_writer_is_told_why_a_trial_makes_no_task(farm: Farm, tmp_path: Path) -> None:
    rows = [question_row(1, accepted=2, Body=ASKED), answer_row(2, 1, Body=pre("sort -r x.txt"))]
    result, server = await build(farm, dumped(tmp_path / "understood", rows), [answer({"refusal": "it is an opinion"})])
    rejection = only_rejection(result).rejection
    assert (rejection.gate, rejection.reason) == (Gate.SETUP, PRINTS_OTHERS)
    assert json.loads(server.requests[0]["messages"][1]["content"])["why rules make no task of it"] == PRINTS_OTHERS
    assert rejection.evidence["runs"]
    assert rejection.evidence["writer"]["refusal"] == "it is an opinion"


async def test_an_endpoint_that_fails_leaves_the_record_to_the_next_build(farm: Farm, dump: StackexchangeDumpSource) -> None:
    down, _ = await build(farm, dump, [Line(status=500)])
    assert (down.finished, down.complete) == ((), False)
    assert "status 500" in down.failed[0].error
    up, _ = await build(farm, dump, [answer({"refusal": "it is an opinion"})])
    assert (up.complete, up.new) == (True, 1)

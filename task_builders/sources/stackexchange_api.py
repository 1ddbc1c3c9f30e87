"""Questions with their answers through the Stack Exchange API 2.3, oldest first.

Called by the minting pipeline with one entry of a sources file. Listings are by creation, so that new questions come at their end and a run
that broke off goes on after its last page. Questions without an accepted answer are passed over; every other becomes a record, or a
rejection that says what it lacks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.ids import Digest
from envfarm.core.question import Answer, Credit, Question
from task_builders.sources.post_licence import licence
from task_builders.sources.source_models import StackexchangeApiSource
from task_builders.sources.stackexchange_client import ApiAccess, StackexchangeClient

WITH_BODIES = "withbody"
"""One of the API's own filters: the default fields, and bodies."""
NO_ACCEPTED_ANSWER = "the accepted answer is not given"
UNREADABLE = "an item of the API cannot be read"

Item = Mapping[str, Any]


def read(source: StackexchangeApiSource, directory: Path, access: ApiAccess) -> Iterator[Question | Rejection]:
    """The questions of a site that have one of the tags and an accepted answer.

    Args:
        source: an entry of a sources file.
        directory: where answers and cursors are kept.
        access: key, certificates, and how waiting is done.

    Raises:
        SourceError: the API refuses, or does not recover; what came before was yielded.
    """
    seen: set[int] = set()
    made = 0
    with StackexchangeClient(directory / source.site, source.base_url, source.site, access) as client:
        for tag in source.tags:
            for items in client.listing("questions", "/questions", _query(source, tag), grows=True):
                wanted = [i for i in items if i.get("accepted_answer_id") and i.get("question_id") not in seen and _scored(i, source)]
                seen.update(i["question_id"] for i in wanted if isinstance(i.get("question_id"), int))
                for outcome in _outcomes(source.site, client, wanted):
                    yield outcome
                    made += isinstance(outcome, Question)
                    if made == source.limit:
                        return


def _query(source: StackexchangeApiSource, tag: str) -> dict[str, str]:
    query = {"tagged": tag, "sort": "creation", "order": "asc", "filter": WITH_BODIES}
    if source.since is not None:
        query["fromdate"] = str(int(source.since.timestamp()))
    return query


def _scored(item: Item, source: StackexchangeApiSource) -> bool:
    return source.min_score is None or int(item.get("score") or 0) >= source.min_score


def _outcomes(site: str, client: StackexchangeClient, items: Sequence[Item]) -> Iterator[Question | Rejection]:
    """A page's questions, with all of their answers in one listing."""
    numbers = [i["question_id"] for i in items if isinstance(i.get("question_id"), int)]
    answers: dict[int, list[Item]] = defaultdict(list)
    if numbers:
        path = f"/questions/{';'.join(map(str, numbers))}/answers"
        for page in client.listing("answers", path, {"sort": "creation", "order": "asc", "filter": WITH_BODIES}, grows=False):
            for answer in page:
                answers[answer.get("question_id", -1)].append(answer)
    for item in items:
        try:
            yield _question(site, item, answers[item["question_id"]])
        except (KeyError, TypeError, ValueError) as e:
            what = f"`{e.args[0]}` is missing" if isinstance(e, KeyError) else str(e).split("\n", 1)[0]
            yield _rejection(site, digest.of_json([site, dict(item)]), item, UNREADABLE, what)


def _question(site: str, item: Item, answers: Sequence[Item]) -> Question | Rejection:
    accepted = item["accepted_answer_id"]
    given = sorted((_answer(site, a, accepted) for a in answers), key=lambda a: (not a.accepted, -(a.score or 0), a.id))
    question = Question(
        id=item["question_id"],
        name=site,
        title=unescape(item["title"]),
        body=item["body"],
        tags=tuple(item.get("tags", ())),
        score=item.get("score"),
        credit=_credit(site, f"q/{item['question_id']}", item),
        answers=tuple(given),
    )
    if not given or not given[0].accepted:
        return _rejection(site, question.digest, item, NO_ACCEPTED_ANSWER, f"of {len(given)} answers none is {accepted}")
    return question


def _answer(site: str, item: Item, accepted: int) -> Answer:
    number = item["answer_id"]
    return Answer(
        id=number,
        body=item["body"],
        score=item.get("score"),
        accepted=number == accepted,
        credit=_credit(site, f"a/{number}", item),
    )


def _credit(site: str, place: str, item: Item) -> Credit:
    created = datetime.fromtimestamp(item["creation_date"], UTC) if item.get("creation_date") else None
    owner = item.get("owner") or {}
    return Credit(
        url=f"https://{site}/{place}",
        author=unescape(owner.get("display_name") or ""),
        author_url=owner.get("link") or "",
        licence=licence(item.get("content_license") or "", created),
        created_at=created,
    )


def _rejection(site: str, source_digest: str, item: Item, reason: str, detail: str) -> Rejection:
    url = f"https://{site}/q/{item.get('question_id', '')}"
    return Rejection(source_digest=Digest(source_digest), name=site, url=url, gate=Gate.CANDIDATE, reason=reason, detail=detail)

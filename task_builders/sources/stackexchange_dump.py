"""Questions with their answers from the public data dump of a Stack Exchange site.

Called by the minting pipeline with one entry of a sources file. Every chosen question becomes a record, or a rejection; every row that
cannot be read becomes a rejection with its place. A dump that breaks off yields all that came before, and then the error.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import SourceError
from envfarm.core.question import Answer, Credit, Question
from task_builders.sources import dump_files
from task_builders.sources.clone import Progress
from task_builders.sources.dump_index import Choice, DumpIndex, Thread, open_index
from task_builders.sources.id_marks import number_of
from task_builders.sources.post_licence import licence
from task_builders.sources.source_models import StackexchangeDumpSource
from task_builders.sources.xml_rows import Fault

NO_ACCEPTED_ANSWER = "the accepted answer is not in the dump"
UNREADABLE = "a row of the dump cannot be read"
SITE = re.compile(
    r"(?:(?:[a-z0-9-]+\.)+stackexchange\.com|(?:[a-z0-9-]+\.)*(?:(?:stackoverflow|superuser|serverfault|askubuntu|stackapps)\.com"
    r"|mathoverflow\.net))(?![a-z0-9])"
)
"""A name that begins with a site's, as the files of the public dump do."""


def read(source: StackexchangeDumpSource, directory: Path, told: Progress) -> Iterator[Question | Rejection]:
    """The chosen questions of a dump, by id; before them a rejection for each row that cannot be read.

    Args:
        source: an entry of a sources file.
        directory: where the index of the dump is kept; it takes as much as the chosen questions and their answers.
        told: is told how far it is.

    Raises:
        SourceError: there is no dump, it is another site's by its name, or it breaks off; what came before was yielded.
    """
    path = Path(source.path)
    posts = dump_files.find(path, "Posts")
    if posts is None:
        fault = "has no posts" if path.exists() else "does not exist"
        raise SourceError(f"`{path}` {fault}", hint="`path` names a dump's Posts.xml, a 7z that holds it, or their directory")
    _check_site(source.site, posts.path)
    others = {table: found for table in ("Users", "PostHistory") if (found := dump_files.find(posts.path, table))}
    choice = Choice(source.tags, source.min_score, source.since.strftime("%Y-%m-%dT%H:%M:%S") if source.since else "")
    with open_index(posts, others, choice, directory, told) as index:
        yield from _outcomes(source, index)


def _check_site(site: str, posts: Path) -> None:
    """Raise `SourceError` if the file, or else its directory, is named after another site: addresses and credits would be wrong."""
    found = SITE.match(posts.name.casefold()) or SITE.match(posts.parent.name.casefold())
    if found and found.group() != site:
        hint = f'write site = "{found.group()}" for this source, or rename the file or directory if its name is wrong'
        raise SourceError(f"`{posts}` is the dump of {found.group()} by its name, and `site` is {site}", hint=hint)


def _outcomes(source: StackexchangeDumpSource, index: DumpIndex) -> Iterator[Question | Rejection]:
    broken: list[str] = []
    for table, fault in index.faults():
        if fault.is_cut_off:
            broken.append(f"`{source.path}`: {table} ends at {fault.where}: {fault.why}")
        else:
            yield _unreadable(source, table, fault)
    if not index.counts["rows"]:
        raise SourceError("; ".join(broken) or f"`{source.path}` has no row that can be read", hint="is it a dump's Posts.xml?")
    if source.tags and not index.counts["chosen"]:
        named = ", ".join(f"`{tag}`" for tag in source.tags)
        raise SourceError(
            f"`{source.path}` has no question to choose with {named}", hint="tags are written as the site does, in lower case"
        )
    made = 0
    for thread in index.threads():
        outcome = _question(source.site, thread, index)
        yield outcome
        made += isinstance(outcome, Question)
        if made == source.limit:
            return
    if broken:
        raise SourceError("; ".join(broken), hint="fetch it again: all that came before was read")


def _question(site: str, thread: Thread, index: DumpIndex) -> Question | Rejection:
    row = thread.question
    accepted = number_of(row["AcceptedAnswerId"])
    number = int(row["Id"])
    answers = sorted((_answer(site, a, accepted, index) for a in thread.answers), key=lambda a: (not a.accepted, -(a.score or 0), a.id))
    question = Question(
        id=number,
        name=site,
        title=row.get("Title", ""),
        body=row["Body"],
        tags=_tags(row.get("Tags", "")),
        score=_number(row.get("Score")),
        credit=_credit(site, f"q/{number}", row, index),
        answers=tuple(answers),
    )
    if not answers or not answers[0].accepted:
        return Rejection(
            source_digest=question.digest,
            name=site,
            url=question.url,
            gate=Gate.CANDIDATE,
            reason=NO_ACCEPTED_ANSWER,
            detail=f"of {len(answers)} answers none is {row['AcceptedAnswerId']}",
        )
    return question


def _answer(site: str, row: Mapping[str, str], accepted: int | None, index: DumpIndex) -> Answer:
    number = int(row["Id"])
    return Answer(
        id=number,
        body=row["Body"],
        score=_number(row.get("Score")),
        accepted=number == accepted,
        credit=_credit(site, f"a/{number}", row, index),
    )


def _credit(site: str, place: str, row: Mapping[str, str], index: DumpIndex) -> Credit:
    """By the post's own row; what it does not say, by its history and the table of users."""
    owner, name = row.get("OwnerUserId", ""), row.get("OwnerDisplayName", "")
    created, editors = row.get("CreationDate", ""), []
    for event, user, said, at in index.history(int(row["Id"])):
        who = said or index.user(number_of(user))
        if event == "first":
            owner, name, created = owner or user, name or who, created or at
        elif who and who not in editors:
            editors.append(who)
    known = number_of(owner)
    name = name or index.user(known)
    date = _date(created)
    return Credit(
        url=f"https://{site}/{place}",
        author=name,
        author_url=f"https://{site}/users/{owner}" if known is not None else "",
        licence=licence(row.get("ContentLicense", ""), date),
        created_at=date,
        editors=tuple(e for e in editors if e != name),
    )


def _unreadable(source: StackexchangeDumpSource, table: str, fault: Fault) -> Rejection:
    return Rejection(
        source_digest=digest.of_json([source.site, table, fault.where, fault.why, fault.excerpt]),
        name=source.site,
        url=f"{source.path} ({table}, {fault.where})",
        gate=Gate.CANDIDATE,
        reason=UNREADABLE,
        detail=fault.why,
        evidence={"excerpt": fault.excerpt},
    )


def _tags(said: str) -> tuple[str, ...]:
    """`<git><bash>`, as dumps wrote tags until 2024, and `|git|bash|`, as they do since."""
    return tuple(tag for tag in re.split(r"[<>|]+", said) if tag)


def _number(said: str | None) -> int | None:
    try:
        return int(said) if said else None
    except ValueError:
        return None


def _date(said: str) -> datetime | None:
    """A dump's dates have no zone: they are in UTC."""
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

"""A small Stack Exchange API: paged questions and answers, a quota, and failures that a test asks for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from envfarm.testing.scripted_server import Asked, Reply, ScriptedServer

ASKED_AT = 1_600_000_000
"""In seconds: question n was asked n seconds later."""
Item = dict[str, Any]


def question(number: int, accepted: int | None = None, **more: Any) -> Item:
    """A question as the API returns it; `more` adds or replaces fields."""
    said: Item = {"question_id": number, "title": f"How &amp; why {number}", "body": "<p>How?</p>", "tags": ["awk"], "score": 5}
    said |= {"creation_date": ASKED_AT + number, "content_license": "CC BY-SA 4.0"}
    said["owner"] = {"display_name": "Ann &amp; Bo", "link": "https://stackoverflow.com/users/7/ann"}
    return said | ({"accepted_answer_id": accepted} if accepted is not None else {}) | more


def answer(number: int, of: int, **more: Any) -> Item:
    """An answer as the API returns it; see `question`."""
    return {"answer_id": number, "question_id": of, "body": f"<p>So: {number}</p>", "score": 1, "creation_date": ASKED_AT} | more


@dataclass
class QuestionApi(ScriptedServer):
    """Answers `/questions` and `/questions/{ids}/answers` from its lists of questions and answers, in their order."""

    questions: list[Item] = field(default_factory=list)
    given: list[Item] = field(default_factory=list)
    quota: int = 300
    troubles: list[Reply] = field(default_factory=list)
    """Replies that are sent instead of the next ones."""
    more: Callable[[str], Item] = field(default=lambda _path: {})
    """Further fields of a reply, by its path, such as `backoff`."""

    def __post_init__(self) -> None:
        super().__init__()

    def reply(self, asked: Asked) -> Reply:
        """The next of the troubles, or a page."""
        self.asked.append(asked)
        if self.troubles:
            return self.troubles.pop(0)
        parts = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = self._found(parts.path, query)
        if found is None:
            return Reply(404, {"error_id": 404, "error_name": "no_method", "error_message": "no method"})
        size, page = int(query["pagesize"]), int(query["page"])
        self.quota -= 1
        rest = {"has_more": len(found) > page * size, "quota_max": 300, "quota_remaining": self.quota}
        return Reply(body={"items": found[(page - 1) * size : page * size]} | rest | self.more(parts.path))

    def _found(self, path: str, query: dict[str, str]) -> list[Item] | None:
        if path == "/questions":
            return [q for q in self.questions if query["tagged"] in q["tags"] and q["creation_date"] >= int(query.get("fromdate", 0))]
        if path.startswith("/questions/") and path.endswith("/answers"):
            numbers = set(path.split("/")[2].split(";"))
            return [a for a in self.given if str(a["question_id"]) in numbers]
        return None

"""The patient client against a server that misbehaves in every way that GitHub does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from envfarm.testing.scripted_server import Asked, Reply, ScriptedServer
from task_builders.sources.github_client import GithubClient
from tests.integration.sources.conftest import HeldClock

OK = Reply(body={"ok": 1})


@pytest.fixture
def client(server: ScriptedServer, clock: HeldClock, tmp_path: Path) -> Iterator[GithubClient]:
    with GithubClient(tmp_path / "kept", server.url, "t0ken", patience=clock.patience()) as opened:
        yield opened


def test_the_token_is_sent(client: GithubClient, server: ScriptedServer) -> None:
    server.on("/x", OK)
    assert client.get("/x") == {"ok": 1}
    assert server.asked[0].headers["authorization"].lower() in {"bearer t0ken", "token t0ken"}


def test_the_token_is_for_the_apis_host_alone(client: GithubClient) -> None:
    with pytest.raises(SourceError, match="not an address of the API"):
        client.get("https://elsewhere.example/x")


def test_a_primary_rate_limit_is_waited_for_until_its_reset(client: GithubClient, server: ScriptedServer, clock: HeldClock) -> None:
    limit = Reply(
        403, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.seconds) + 41)}
    )
    server.on("/x", limit, OK)
    assert client.get("/x") == {"ok": 1}
    assert clock.waits == [42]
    assert clock.said == ["rate limit: waiting 42 s"]


@pytest.mark.parametrize(
    ("reply", "wait_s"),
    [
        (Reply(429, {"message": "slow down"}, {"Retry-After": "7"}), 7),
        (Reply(403, {"message": "You have exceeded a secondary rate limit"}), 60),
        (Reply(403, {"message": "You have exceeded a secondary rate limit"}, {"Retry-After": "3"}), 3),
        (Reply(429, {"message": "slow down"}), 60),
        (Reply(429, {"message": "slow down"}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), 60),
    ],
)
def test_secondary_limits_are_waited_for(
    client: GithubClient, server: ScriptedServer, clock: HeldClock, reply: Reply, wait_s: float
) -> None:
    server.on("/x", reply, reply, OK)
    assert client.get("/x") == {"ok": 1}
    assert clock.waits == [wait_s, wait_s]


def test_a_limit_that_ends_too_late_is_not_waited_for(client: GithubClient, server: ScriptedServer, clock: HeldClock) -> None:
    server.on("/x", Reply(403, {}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.seconds) + 90_000)}))
    with pytest.raises(SourceError, match="it ends in 90001 s") as told:
        client.get("/x")
    assert "GITHUB_TOKEN" in told.value.hint
    assert clock.waits == []


@pytest.mark.parametrize(
    "broken",
    [
        Reply(502, raw=b"<html>bad gateway</html>"),
        Reply(500, {}),
        Reply(200, raw=b'[{"number": 1'),
        Reply(200, {"a": "b" * 100}, cut=50),
    ],
)
def test_broken_answers_are_asked_for_again(client: GithubClient, server: ScriptedServer, clock: HeldClock, broken: Reply) -> None:
    server.on("/x", broken, broken, OK)
    assert client.get("/x") == {"ok": 1}
    assert clock.waits == [1, 2]


def test_patience_ends(client: GithubClient, server: ScriptedServer, clock: HeldClock) -> None:
    server.on("/x", Reply(502, {}))
    with pytest.raises(SourceError, match="status 502, 6 times"):
        client.get("/x")
    assert clock.waits == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(401, "token is not accepted"), (403, "forbidden: no"), (404, "no such thing"), (410, "no such thing"), (422, "422: no")],
)
def test_what_waiting_does_not_mend_fails_at_once(
    client: GithubClient, server: ScriptedServer, clock: HeldClock, status: int, complaint: str
) -> None:
    server.on("/x", Reply(status, {"message": "no"}))
    with pytest.raises(SourceError, match=complaint):
        client.get("/x")
    assert (len(server.asked), clock.waits) == (1, [])


def test_a_server_that_is_not_there_is_told(clock: HeldClock, tmp_path: Path) -> None:
    with (
        GithubClient(tmp_path, "http://127.0.0.1:9", patience=clock.patience()) as client,
        pytest.raises(SourceError, match="ConnectError"),
    ):
        client.get("/x")


def test_a_moved_resource_is_followed(client: GithubClient, server: ScriptedServer) -> None:
    server.on("/repos/old/name", Reply(301, {}, {"Location": f"{server.url}/repositories/5"}))
    server.on("/repositories/5", OK)
    assert client.get("/repos/old/name") == {"ok": 1}


def test_an_unchanged_answer_is_taken_from_disk(client: GithubClient, server: ScriptedServer) -> None:
    def conditional(asked: Asked) -> Reply:
        return Reply(304) if asked.headers.get("if-none-match") == '"e1"' else Reply(body={"ok": 1}, headers={"ETag": '"e1"'})

    server.on("/x", conditional)
    assert client.get("/x") == client.get("/x") == {"ok": 1}
    assert [a.headers.get("if-none-match") for a in server.asked] == [None, '"e1"']
    assert client.get("/x", reuse=True) == {"ok": 1}
    assert len(server.asked) == 2


def page(server: ScriptedServer, number: int, last: int, items: list[int]) -> None:
    following = {"Link": f'<{server.url}/list?page={number + 1}>; rel="next"'} if number < last else {}
    server.on(f"/list?page={number}", Reply(body=items, headers=following))


def test_a_listing_goes_on_after_its_last_page(client: GithubClient, server: ScriptedServer) -> None:
    page(server, 1, 3, [1])
    page(server, 2, 3, [2])
    server.on("/list?page=3", Reply(404, {}))
    read = client.listing("things", "/list?page=1")
    assert [next(read), next(read)] == [[1], [2]]
    with pytest.raises(SourceError):
        next(read)
    page(server, 3, 3, [3])
    assert list(client.listing("things", "/list?page=1")) == [[1], [2], [3]]
    assert server.paths() == ["/list?page=1", "/list?page=2", "/list?page=3", "/list?page=3"]


def test_a_whole_listing_asks_for_its_last_page_alone(client: GithubClient, server: ScriptedServer) -> None:
    page(server, 1, 2, [1])
    page(server, 2, 2, [2])
    assert list(client.listing("things", "/list?page=1")) == [[1], [2]]
    page(server, 2, 3, [2, 3])
    page(server, 3, 3, [4])
    assert list(client.listing("things", "/list?page=1")) == [[1], [2, 3], [4]]
    assert server.paths()[2:] == ["/list?page=2", "/list?page=3"]


def test_a_cursor_that_was_cut_off_starts_again(client: GithubClient, server: ScriptedServer, tmp_path: Path) -> None:
    page(server, 1, 1, [1])
    (tmp_path / "kept" / "things.cursor.json").write_text('{"done": ["x')
    assert list(client.listing("things", "/list?page=1")) == [[1]]


def test_a_listing_that_is_none_is_told(client: GithubClient, server: ScriptedServer) -> None:
    server.on("/list", OK)
    with pytest.raises(SourceError, match="a list was expected"):
        list(client.listing("things", "/list"))

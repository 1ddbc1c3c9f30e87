"""Whether what an installer said means that an index, a mirror or a registry did not answer. Pure; asked wherever a build's step failed.

An outage says nothing about a recipe: who takes it for the recipe's fault refuses a task for ever because a cable was out. Only the words
of installers themselves count, as uv, pip, cargo, apt, git and Docker write them. What a package's own code says when its download fails
is a failure like any other: its address may be dead for good.
"""

import re

from envfarm.core.errors import BuildOutage

SIGNS = re.compile(
    r"""
      error\ sending\ request\ for\ url | tcp\ connect\ error | cause:\ (?:dns\ error|operation\ timed\ out) | Caused\ by:\ dns\ error
    | error\ reading\ a\ body\ from\ connection | due\ to\ network\ timeout
    | HTTP\ status\ (?:server\ error\ \(5\d\d|client\ error\ \(429)
    | Retrying\ \(Retry\(total=0,
    | pip\._vendor\.(?:urllib3|requests)\.exceptions\.(?:ReadTimeoutError|ConnectionError|ReadTimeout|ProtocolError)
    | ERROR:\ HTTP\ error\ (?:5\d\d|429)
    | spurious\ network\ error
    | Temporary\ failure\ resolving | Could\ not\ connect\ to\ \S+:\d+\ \( | Unable\ to\ connect\ to\ \S+:
    | ^(?:E:\ Failed\ to\ fetch|Err:).*(?:\s5\d\d\s|Connection\ (?:failed|timed\ out))
    | unable\ to\ access\ '[^']*':\ (?:Could\ not\ resolve|Failed\ to\ connect|Connection|Operation\ timed)
    | received\ unexpected\ HTTP\ status:\ 5\d\d
    | dial\ tcp | TLS\ handshake\ timeout | net/http:\ request\ canceled | toomanyrequests
    """,
    re.VERBOSE | re.MULTILINE,
)
HINT = "see that it can be reached from here; the same command takes it up again"


def outage_in(said: str) -> BuildOutage | None:
    """The error that an installer's words stand for, with the line that tells; None where the network was not what failed."""
    found = SIGNS.search(said)
    if found is None:
        return None
    start, end = said.rfind("\n", 0, found.start()) + 1, said.find("\n", found.end())
    line = " ".join(said[start : end if end >= 0 else None].split())
    return BuildOutage(f"an index, a mirror or a registry does not answer: {line[:300]}", hint=HINT)

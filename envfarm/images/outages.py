"""Whether what an installer said means that an index, a mirror or a registry did not answer, or that the machine's disk is full. Pure;
asked wherever a build's step failed.

An outage says nothing about a recipe: who takes it for the recipe's fault refuses a task for ever because a cable was out. Neither does a
refusal (401, 403), which is about who asks. Only the words of installers themselves count, as uv, pip, cargo, apt, git and Docker write
them. What a package's own code says when its download fails is a failure like any other: its address may be dead for good.
"""

import re

from envfarm.core.errors import BuildOutage
from envfarm.core.sandbox import Network

SIGNS = re.compile(
    r"""
      error\ sending\ request\ for\ url | tcp\ connect\ error | cause:\ (?:dns\ error|operation\ timed\ out) | Caused\ by:\ dns\ error
    | error\ reading\ a\ body\ from\ connection | due\ to\ network\ timeout
    | HTTP\ status\ (?:server\ error\ \(5\d\d|client\ error\ \((?:401|403|407|429))
    | lack\ of\ valid\ authentication\ credentials | returned\ a\ 403\ Forbidden\ error
    | Retrying\ \(Retry\(total=0,
    | pip\._vendor\.(?:urllib3|requests)\.exceptions\.(?:ReadTimeoutError|ConnectionError|ReadTimeout|ProtocolError)
    | ERROR:\ HTTP\ error\ (?:5\d\d|401|403|407|429) | 401\ Error,\ Credentials\ not\ correct
    | spurious\ network\ error
    | Temporary\ failure\ resolving | Could\ not\ connect\ to\ \S+:\d+\ \( | Unable\ to\ connect\ to\ \S+:
    | ^(?:E:\ Failed\ to\ fetch|Err:).*(?:\s(?:5\d\d|401|403|407)\s|Connection\ (?:failed|timed\ out))
    | unable\ to\ access\ '[^']*':\ (?:Could\ not\ resolve|Failed\ to\ connect|Connection|Operation\ timed)
    | received\ unexpected\ HTTP\ status:\ 5\d\d
    | pull\ access\ denied | (?:Get|Head)\ "?https?://[^\s"]+"?:\ (?:unauthorized|denied)
    | dial\ tcp | TLS\ handshake\ timeout | net/http:\ request\ canceled | toomanyrequests
    """,
    re.VERBOSE | re.MULTILINE,
)
FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|\(os error (?:28|122)\)", re.IGNORECASE)
HINT = "check that it can be reached from here, then run the same command again"


def outage_in(said: str, network: Network = Network.OPEN) -> BuildOutage | None:
    """The error that an installer's words stand for, with the line that tells; None where neither the network nor the disk was what failed.

    Without a `network` nobody was asked, so nobody failed to answer: what is said there of a network is the project's own wish for one.
    """
    if found := FULL_DISK.search(said):
        return full_disk(_line(said, found))
    if network is Network.OPEN and (found := SIGNS.search(said)):
        return BuildOutage(f"an index, a mirror or a registry does not answer, or refuses: {_line(said, found)}", hint=HINT)
    return None


def full_disk(how: str) -> BuildOutage:
    """The error of a step that found no room on the machine's disk."""
    return BuildOutage(f"the machine's disk is full: {how}", hint="free some space, then run the same command again")


def _line(said: str, found: re.Match[str]) -> str:
    start, end = said.rfind("\n", 0, found.start()) + 1, said.find("\n", found.end())
    return " ".join(said[start : end if end >= 0 else None].split())[:300]

"""What a storm left in the cluster and on this machine that nobody living holds. Each judge is a function of what was seen."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.cluster.kube import DOMAIN, Json
from tests.chaos.processes import table

PROC = Path("/proc")


def pods(seen: Sequence[Json], living: Collection[str]) -> list[str]:
    """No pod but those named, which are neighbours'."""
    return [f"pod {name} is left ({each['status'].get('phase')})" for each in seen if (name := each["metadata"]["name"]) not in living]


def leases(seen: Sequence[Json], living: Collection[str], killed: int) -> list[str]:
    """Of makers that are gone no lease but those that lapsed, as many as were killed at most: others gave theirs back."""
    now, lapsed, found = datetime.now(UTC), 0, []
    for each in seen:
        maker, spec = each["metadata"]["labels"].get(f"{DOMAIN}maker"), each["spec"]
        if maker in living:
            continue
        if (now - datetime.fromisoformat(spec["renewTime"])).total_seconds() < spec["leaseDurationSeconds"] / 4:
            found.append(f"somebody still renews the lease of maker {maker}")
        lapsed += 1
    return found if lapsed <= killed else [*found, f"{lapsed} makers left their lease, and {killed} were killed"]


def on_nodes(uids: Iterable[str], *, proc: Path = PROC) -> list[str]:
    """No process and no mount of these pods, where their node is this machine."""
    names = {uid: (uid, uid.replace("-", "_")) for uid in uids}  # as a path's part, and as systemd spells it
    found = [f"pod {uid} has mounts on this machine" for uid in _named_in(proc / "self/mountinfo", names)]
    for groups in sorted(proc.glob("[0-9]*/cgroup")):
        found += [f"process {groups.parent.name} of pod {uid} is left" for uid in _named_in(groups, names)]
    return found


def _named_in(file: Path, names: Mapping[str, Collection[str]]) -> list[str]:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return []
    return [uid for uid, spellings in names.items() if any(spelling in text for spelling in spellings)]


def firewall(rules: str, mark: str) -> list[str]:
    """No rule that the harness made."""
    return [f"a rule of the firewall is left: {line}" for line in rules.splitlines() if mark in line]


def boxd_of(pod: Json) -> int | None:
    """The process of a pod's boxd where its node is this machine, found by its token's digest; None elsewhere."""
    digest = pod["spec"]["containers"][0]["command"][-1]
    return next((p.pid for p in table() if digest in p.command and " await " in p.command and p.pid != os.getpid()), None)

"""Harm a farm whose boxes are pods, at bad moments, and look at what became of its episodes.

    python -m tests.chaos.cluster --episodes 200 --faults 60

Needs KUBECONFIG, kubectl, Docker, a registry at localhost:5000, PostgreSQL's programs, and to be run where pods are reached (on the node;
some kinds need its root). Exits 1 with complaints where an episode has another outcome than one, or another reward than it earned, or
where anything is left behind or a neighbour was touched.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.chaos import processes
from tests.chaos.cluster import truth
from tests.chaos.cluster.faults.all_of_them import FAULTS
from tests.chaos.cluster.faults.components import component
from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Asked, Field, field
from tests.chaos.cluster.storm import Storm
from tests.chaos.cluster.trainer import Trainer

PLACE = Path("/var/tmp")


def main() -> int:
    """The exit status."""
    options = _options()
    faults, left_out = _chosen(options)
    if options.list:
        for fault in FAULTS:
            needs = f"needs {fault.needs}" if fault.needs else ""
            _say("\t".join((fault.name, ", ".join(fault.phases), f"{fault.lasts_s:g} s", f"harms {fault.reach}", needs)))
        return 0
    kubeconfig = os.environ.get("KUBECONFIG")  # noqa: TID251 - a harness's own needs
    if not kubeconfig:
        _say("error: no cluster: set KUBECONFIG\nhint: on one machine without a cluster, python -m tests.chaos")
        return 2
    processes.become_reaper()
    asked = Asked(
        kubeconfig=Path(kubeconfig),
        on_ray=options.on == "ray",
        hosts=options.hosts,
        episodes_per_host=options.episodes_per_host,
        image=options.image,
        warm=options.warm,
        runtime_class=options.runtime_class,
        keep=options.keep,
        faketime=_faketime() if any(fault.needs == "faketime" for fault in faults) else None,
    )
    began = time.monotonic()
    with field(asked, PLACE) as place:
        storm = _play(place, faults, options)
        told, went_on = truth.read(place.database, place.agents), truth.went_on(place.home / "runs/trajectories")
        storm.judge_remains()
    _tell(storm, told, left_out)
    _say("attempts that went on: " + (", ".join(f"{count} {way}" for way, count in went_on.most_common()) or "none"))
    _say(f"{len(storm.struck)} faults, {len(told.episodes)} episodes, {time.monotonic() - began:.0f} s, {len(storm.complaints)} complaints")
    for complaint in storm.complaints:
        _say(f"complaint: {complaint}")
    if storm.complaints and options.keep:
        _say(f"see {place.directory}")
    return 1 if storm.complaints else 0


def _play(place: Field, faults: list[Fault], options: argparse.Namespace) -> Storm:
    trainer = Trainer(place)
    storm = Storm(place, trainer, random.Random(options.seed), _say)  # noqa: S311 - to be repeated, not secret
    with trainer.taking():
        storm.calm()
        _say(f"calm: {trainer.episodes} episodes, {len(storm.complaints)} complaints")
        storm.rage(faults, count=options.faults, episodes=options.episodes, within_s=options.minutes * 60)
        storm.judge()
    return storm


def _tell(storm: Storm, told: truth.Told, left_out: list[str]) -> None:
    """A line per kind and moment: how often, and what became of the episodes that it may have harmed."""
    counts = Counter((fault.kind, fault.phase) for fault in storm.struck)
    _say("kind\tmoment\tcount\tepisodes that it may have harmed")
    for (kind, phase), count in sorted(counts.items()):
        hit = frozenset().union(*(fault.hit for fault in storm.struck if (fault.kind, fault.phase) == (kind, phase)))
        _say(f"{kind}\t{phase}\t{count}\t{truth.became(told, hit)}")
    for (kind, phase), count in sorted(storm.missed.items()):
        _say(f"{kind}\t{phase}\t0\tits moment did not come, {count} times")
    agents = Counter((one.agent, "as earned" if one.is_as_earned else str(one.kind)) for one in told.episodes)
    _say("agents: " + ", ".join(f"{agent} {count} {what}" for (agent, what), count in sorted(agents.items())))
    for name in left_out:
        _say(f"not played: {name}")


def _chosen(options: argparse.Namespace) -> tuple[list[Fault], list[str]]:
    """What is played, and what is not, and why."""
    root, on_ray = os.geteuid() == 0, options.on == "ray"
    has = {
        "": True,
        "root": root,
        "cluster": root and options.harm_the_cluster,
        "ray": on_ray,
        "faketime": _faketime() is not None and not on_ray,
    }
    named = [fault for fault in FAULTS if not options.only or any(word in fault.name for word in options.only)]
    hints = {
        "root": "be root on the node",
        "cluster": "--harm-the-cluster, as root on its only node",
        "ray": "--on ray",
        "faketime": "apt-get install -y faketime, and --on processes",
    }
    why_not = {fault.name: hints[fault.needs] for fault in named if not has[fault.needs]}
    gone = [fault for fault in named if fault.program and fault.name not in why_not and component(fault.program) is None]
    why_not |= {fault.name: f"there is not one {fault.program} on this machine" for fault in gone}
    return [fault for fault in named if fault.name not in why_not], [f"{name}: {why}" for name, why in why_not.items()]


def _faketime() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description="Harm a farm whose boxes are pods, at bad moments.")
    parser.add_argument("--episodes", type=int, default=120, help="at least")
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="after so long no further fault is done")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults and agents")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="a part of a kind's name; more than once for several")
    parser.add_argument("--harm-the-cluster", action="store_true", help="stop parts of the cluster itself, too: nobody else may need it")
    parser.add_argument("--on", choices=("processes", "ray"), default="processes", help="where hosts live")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--episodes-per-host", type=int, default=3)
    parser.add_argument("--warm", type=int, default=0, help="pods that each host makes ahead")
    parser.add_argument("--runtime-class", default="")
    parser.add_argument(
        "--image", default="", help="of boxes, name@sha256:… in the registry at localhost:5000  [default: python:3.11-slim]"
    )
    parser.add_argument("--keep", action="store_true", help="leave home and logs behind")
    parser.add_argument("--list", action="store_true", help="tell the kinds of faults, and do nothing")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

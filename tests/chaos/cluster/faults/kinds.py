"""What a fault is: a name, how it is done and undone, whom it may harm, and at which moments it is played."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target

EVERYWHERE = ("create", "action", "grade", "commit")
IN_A_BOX = ("create", "action", "grade")
Reach = Literal["episode", "host", "all"]
Needs = Literal["", "root", "cluster", "ray", "faketime"]


class Fault(NamedTuple):
    """One row of the table of faults."""

    name: str
    done: Callable[[Field, Target], AbstractContextManager[None]]
    """Does it; undoes it when its block ends."""
    reach: Reach
    """Whom it may harm: the episode that it was aimed at, all of its host's, or everybody's."""
    lasts_s: float = 0.0
    phases: tuple[str, ...] = EVERYWHERE
    needs: Needs = ""
    """`root` on the node, which is this machine; `cluster`: it harms parts of the cluster that others use, too; `ray`: hosts on it;
    `faketime`: libfaketime."""
    program: str = ""
    """Of the part of the cluster that it harms: there has to be one such process on this machine."""

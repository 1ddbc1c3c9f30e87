"""What a host says that it counted: once, whatever became of its lease and of the answers."""

from dataclasses import dataclass, field

from envfarm.controller.host_tally import HostTally
from envfarm.core.tally import NOTHING, TOTAL, Tally


def counted(n: float) -> Tally:
    return Tally(counts={"c": {"{}": {TOTAL: n}}}) if n else NOTHING


@dataclass
class Process:
    n: float = 0.0
    says: HostTally = field(init=False)

    def __post_init__(self) -> None:
        self.says = HostTally(lambda: counted(self.n))
        self.says.next_lease()


def test_under_one_lease_it_says_all_that_it_counted() -> None:
    process = Process()
    for process.n in (1.0, 3.0):
        assert process.says.to_say() == counted(process.n)
        process.says.heard()
    process.n = 4.0
    assert process.says.last() == counted(4.0)


def test_under_the_next_lease_it_says_what_came_since() -> None:
    process = Process(n=5.0)
    assert process.says.to_say() == counted(5.0)
    process.says.heard()
    process.says.next_lease()
    process.n = 7.0
    assert process.says.to_say() == counted(2.0)


def test_what_was_said_without_an_answer_is_said_again_and_nothing_of_the_outage_is_lost() -> None:
    process = Process(n=5.0)
    process.says.to_say()
    process.says.heard()
    for process.n in (6.0, 50.0, 60.0):  # no answer comes
        assert process.says.to_say() == counted(6.0)
    process.says.next_lease()  # it was another's by then
    assert process.says.to_say() == counted(54.0)
    process.n = 61.0
    assert process.says.last() == counted(55.0)

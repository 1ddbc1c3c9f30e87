"""What a proposal's task is made of, before its programs run."""

import json
from typing import Any

from task_builders.terminal import make
from task_builders.writing import trial
from task_builders.writing.proposal import Proposal, parse
from tests.unit.writing.proposals import GOOD


def proposal(**changes: Any) -> Proposal:
    found = parse(json.dumps(GOOD | changes))
    assert isinstance(found, Proposal)
    return found


def test_only_tools_that_are_known_name_a_task() -> None:
    programs = [{"language": "shell", "text": "../../x/evil stock.txt | mawk '{print}' | frobnicate\n"}, GOOD["programs"][1]]
    found = trial.reading(proposal(programs=programs, packages=["jq"]))
    assert found.tools == ("awk", "python")
    assert found.packages == ("gawk", "jq", "python3")


def test_programs_that_use_pandas_get_it() -> None:
    programs = [GOOD["programs"][0], {"language": "python", "text": "import pandas as pd\nprint(pd.read_csv('stock.txt'))\n"}]
    found = trial.reading(proposal(programs=programs))
    assert "pandas==" in make.recipe(found, "3.11.9").files["/opt/requirements.txt"]
    assert make.recipe(trial.reading(proposal()), "3.11.9").dependencies == ()

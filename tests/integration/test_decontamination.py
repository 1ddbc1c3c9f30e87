"""A list of fingerprints that the operator hands in keeps its tasks out."""

import json
import subprocess
from pathlib import Path

from task_builders import journal
from task_builders.journal import ItemRejected
from tests.integration.test_index_outage import NOBODY, build, repository_with_a_fix


def test_task_of_a_given_list_is_rejected(tmp_path: Path) -> None:
    repository, home = repository_with_a_fix(tmp_path / "shelf"), tmp_path / "home"
    fix = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    known = tmp_path / "known.jsonl"
    lines = [{"format": "envfarm-fingerprints", "version": 1}, {"set": "some-benchmark", "commits": [fix]}]
    known.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = tmp_path / "sources.toml"
    file.write_text(f'[[source]]\nkind = "git"\nrepository = \'{repository}\'\nlicence = "MIT"\ncommits = {{ newest = 1 }}\n')
    status, said = build(home, file, NOBODY, "--decontaminate", str(known))
    assert status == 0, said
    (path,) = (home / "sources/builds").glob("*.jsonl")
    (entry,) = journal.read(path)
    assert isinstance(entry, ItemRejected)
    assert (entry.rejection.reason, entry.rejection.evidence["set"]) == ("a benchmark has this change", "some-benchmark")

"""`envfarm tasks understand`, on a made-up dump."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from envfarm.core.errors import SourceError, UsageError
from envfarm.testing.question_dump import answer, question, table
from task_builders.question_commands import understand
from tests.unit.questions.asked import ASKED, pre


def test_counts_and_reasons_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVFARM_HOME", str(tmp_path / "home"))
    rows = [
        question(1, accepted=2, Body=ASKED),
        answer(2, 1, Body=pre("sort x.txt")),
        question(3, accepted=4),
        answer(4, 3),
        question(5, accepted=9),
    ]
    (tmp_path / "Posts.xml").write_text(table(rows), encoding="utf-8")
    (tmp_path / "sources.toml").write_text('[[source]]\nkind = "stackexchange_dump"\npath = "Posts.xml"\n')
    result = CliRunner().invoke(understand, [str(tmp_path / "sources.toml"), "--format", "json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["counts"]["understood"] == 1
    assert said["reasons"] == {"the question has no block of code": 1, "the accepted answer is not in the dump": 1}
    text = CliRunner().invoke(understand, [str(tmp_path / "sources.toml")])
    assert "understood, by sort" in text.stdout


def test_what_a_cut_dump_has_is_counted_before_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVFARM_HOME", str(tmp_path / "home"))
    whole = table([question(1, accepted=2, Body=ASKED), answer(2, 1, Body=pre("sort x.txt")), question(3, accepted=4)])
    (tmp_path / "Posts.xml").write_text(whole[: whole.rindex("<row") + 9], encoding="utf-8")
    source = '[[source]]\nkind = "stackexchange_dump"\npath = "Posts.xml"\n'
    (tmp_path / "sources.toml").write_text(source)
    result = CliRunner().invoke(understand, [str(tmp_path / "sources.toml"), "--format", "json"])
    assert isinstance(result.exception, SourceError)
    assert json.loads(result.stdout)["counts"]["understood"] == 1


def test_a_file_without_such_sources_is_told(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text('[[source]]\nkind = "releases"\npackage = "frob"\nnewest = 3\n')
    with pytest.raises(UsageError, match="Stack Exchange"):
        CliRunner().invoke(understand, [str(tmp_path / "sources.toml")], catch_exceptions=False)

"""Command-line input: the sample that overrides a file's, and where a build's journal is."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import UsageError
from envfarm.core.ids import Digest
from envfarm.core.validation import ValidationReport
from envfarm.settings import Settings
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.testing.factories import make_environment, make_task, passed_gates
from task_builders import commands
from task_builders.candidates.decontamination import Decontamination, read_lists
from task_builders.journal import ItemFailed, ItemRejected, ItemValid, Journal
from task_builders.sources.source_models import GithubSource, GitSource, NewestCommits, ReleasesSource, SampledCommits

GIT = GitSource(repository="/src/rockets", commits=NewestCommits(newest=3))
GITHUB = GithubSource(repository="acme/rockets")
RELEASES = ReleasesSource(package="rockets", versions=("1.0", "1.1"))


def settings(home: Path) -> Settings:
    return Settings(home=home, parallel=1)


def test_draw_replaces_the_commits_of_git_sources() -> None:
    (drawn,) = commands.redrawn([GIT], "sample=15,seed=1,since=2018-01-01")
    assert isinstance(drawn, GitSource)
    assert isinstance(drawn.commits, SampledCommits)
    assert (drawn.commits.sample, drawn.commits.seed, str(drawn.commits.since)[:10]) == (15, 1, "2018-01-01")
    assert commands.redrawn([GIT], "") == [GIT]


def test_draw_of_the_newest_holds_for_releases_as_well() -> None:
    (drawn,) = commands.redrawn([RELEASES], "newest=4")
    assert isinstance(drawn, ReleasesSource)
    assert (drawn.newest, drawn.versions) == (4, None)


def test_a_source_that_a_draw_does_not_fit_is_told_and_read_as_the_file_says(capfd: pytest.CaptureFixture[str]) -> None:
    drawn = commands.redrawn([GITHUB, GIT, RELEASES], "sample=4,seed=1")
    assert (drawn[0], drawn[2]) == (GITHUB, RELEASES)
    assert drawn[1] != GIT
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["source[1] (github)", "source[3] (releases)"]
    with pytest.raises(UsageError, match="--draw sample=4,seed=1 fits no source"):
        commands.redrawn([GITHUB, RELEASES], "sample=4,seed=1")


@pytest.mark.parametrize(
    ("draw", "named"),
    [
        ("nonsense", "'nonsense' is not key=value"),
        ("newst=15", "none of newest, sample"),
        ("newest=-1", "`newest`: "),
        ("newest=many", "`newest`: "),
        ("sample=3,colour=red", "`colour`: "),
        ("newest=3,", "'' is not key=value"),
    ],
)
def test_draw_that_makes_no_sense_is_told_with_an_example(draw: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        commands.redrawn([GIT], draw)
    assert "for example newest=15" in caught.value.hint


def test_each_sources_file_and_sandbox_has_its_own_journal(tmp_path: Path) -> None:
    one = commands.journal_path(settings(tmp_path), Path("/a/sources.toml"), "local")
    assert one == commands.journal_path(settings(tmp_path), Path("/a/sources.toml"), "local")
    others = {commands.journal_path(settings(tmp_path), Path("/b/sources.toml"), "local")}
    others.add(commands.journal_path(settings(tmp_path), Path("/a/sources.toml"), "docker"))
    assert one not in others
    assert len(others) == 2


def test_yield_is_read_from_every_journal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Journal(tmp_path / "sources" / "builds" / f"{name}.jsonl") as journal:
            journal.append(ItemFailed(source_digest=digest.of_bytes(b"one"), project="acme/rockets", url="u", error="no daemon"))
    finished, failed = commands._journals(settings(tmp_path), None)
    assert finished == []
    assert len(failed) == 2


def test_sources_file_that_is_missing_is_told_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands.build, [str(tmp_path / "none.toml")])
    assert isinstance(result.exception, UsageError)
    assert "none.toml" in str(result.exception)


@pytest.mark.parametrize(
    "options", [["--writer", "http://127.0.0.1:1/v1"], ["--writer-model", "m"], ["--writer", "here", "--writer-model", "m"]]
)
def test_a_writer_needs_an_address_and_a_model(tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(commands.build, [str(tmp_path / "none.toml"), *options])
    assert isinstance(result.exception, UsageError)
    assert "--writer-model" in str(result.exception)


def test_every_rejection_is_listed_with_what_was_seen(tmp_path: Path) -> None:
    digest = Digest("sha256:" + "a" * 64)
    rejection = Rejection(
        source_digest=digest, name="a/b", url="a/b@1", gate=Gate.CANDIDATE, reason="too large", detail="31 files", evidence={"files": 31}
    )
    entries = [ItemRejected(rejection=rejection, reached="record")]
    path = tmp_path / "sources/builds/one.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(entry.model_dump_json() + "\n" for entry in entries))
    env = {"ENVFARM_HOME": str(tmp_path)}
    text = CliRunner().invoke(commands.report, ["--rejected"], env=env)
    assert [word in text.output for word in ("a/b@1", "candidate", "too large", "31 files")] == [True] * 4
    found = CliRunner().invoke(commands.report, ["--rejected", "--format", "json"], env=env)
    assert json.loads(found.output)[0]["evidence"] == {"files": 31}
    assert CliRunner().invoke(commands.report, ["--rejected", "a/b"], env=env).exit_code != 0


def test_records_are_listed_for_people_and_line_by_line_for_tools(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    for sources, url in ((file, "https://a.example/1"), (tmp_path / "other.toml", "https://a.example/2")):
        failed = ItemFailed(source_digest=digest.of_bytes(url.encode()), project="a", url=url, error="no daemon", title="Sums")
        rejection = Rejection(
            source_digest=digest.of_bytes(b"2"), name="a", url=f"{url}b", gate=Gate.SETUP, reason="it fails", evidence={"exit": 2}
        )
        with Journal(commands.journal_path(settings(tmp_path), sources, "docker")) as journal:
            journal.append(failed, ItemRejected(rejection=rejection, reached="candidate", title="Other sums"))
    env = {"ENVFARM_HOME": str(tmp_path)}
    text = CliRunner().invoke(commands.report, ["--records"], env=env).output.splitlines()
    assert "https://a.example/2b\tOther sums\trejected at setup\tit fails" in text
    assert len(text) == 5
    mistyped = CliRunner().invoke(commands.report, ["--records", "--sources", str(file)], env=env)
    assert (mistyped.exit_code, "does not exist" in mistyped.output) == (2, True)
    file.touch()
    told = CliRunner().invoke(commands.report, ["--records", "--sources", str(file), "--format", "jsonl"], env=env).output
    first, second = (json.loads(line) for line in told.splitlines())
    assert (first["url"], first["title"], first["fate"], first["evidence"]) == (
        "https://a.example/1b",
        "Other sums",
        "rejected",
        {"exit": 2},
    )
    assert (second["title"], second["fate"], second["reason"]) == ("Sums", "not judged", "no daemon")
    assert CliRunner().invoke(commands.report, ["--records", "--rejected"], env=env).exit_code != 0


def test_report_without_builds_is_an_empty_yield(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands.report, ["--format", "json"], env={"ENVFARM_HOME": str(tmp_path)})
    assert json.loads(result.output) == {"rows": [], "rejected": [], "tries": []}


def test_fingerprints_of_tasks_are_a_list_that_can_be_given_to_decontaminate(tmp_path: Path) -> None:
    one, other = make_task(), make_task(name="made-up/other")

    catalogue = TaskCatalogue(settings(tmp_path).catalogue)
    for task in (one, other):
        asyncio.run(catalogue.add(task))
    catalogue.close()
    env = {"ENVFARM_HOME": str(tmp_path)}
    for names, count in (([one.name], 1), ([one.name, one.name], 1), (["--all", "--state", "any"], 2)):
        told = CliRunner(env=env).invoke(commands.fingerprint_tasks, [*names, "--set", "mine"])
        (tmp_path / "list").write_text(told.output)
        known = Decontamination(read_lists([tmp_path / "list"]))
        assert known.compared == f"none of {count} fingerprints matches: mine ({count})"


def test_all_tasks_are_the_valid_ones_unless_a_state_is_given(tmp_path: Path) -> None:
    valid, unchecked = make_task(), make_task(name="made-up/other")
    report = ValidationReport(
        task=valid.digest, environment=make_environment(), provider="local", created_at=valid.created_at, gates=passed_gates()
    )
    catalogue = TaskCatalogue(settings(tmp_path).catalogue)
    asyncio.run(catalogue.add_validated(valid, report))
    asyncio.run(catalogue.add(unchecked))
    catalogue.close()
    runner = CliRunner(env={"ENVFARM_HOME": str(tmp_path)})

    def reported(*more: str) -> list[str]:
        return [card["name"] for card in json.loads(runner.invoke(commands.report, ["--format", "json", "--all", *more]).stdout)]

    assert reported() == reported("--state", "any") == [valid.name]
    assert "made-up/other: never validated" in runner.invoke(commands.report, ["--all", "--state", "any"]).stderr
    assert (
        len(runner.invoke(commands.fingerprint_tasks, ["--all", "--state", "unchecked"]).stdout.splitlines()) == 2
    )  # a head, and the task
    for command, wrong in (
        (commands.report, ["--state", "any"]),
        (commands.report, ["--all", valid.name]),
        (commands.report, ["--all", "--records"]),
        (commands.fingerprint_tasks, []),
        (commands.fingerprint_tasks, ["--all", "--state", "quarantined"]),
    ):
        assert isinstance(runner.invoke(command, wrong).exception, UsageError), wrong


def test_a_task_that_was_validated_since_its_build_is_valid_in_the_yield(tmp_path: Path) -> None:
    task = make_task()
    report = ValidationReport(
        task=task.digest, environment=make_environment(), provider="local", created_at=task.created_at, gates=passed_gates()
    )
    entry = ItemValid(
        source_digest=digest.of_bytes(b"one"),
        project="acme/rockets",
        url="u",
        task=task.digest,
        task_name=task.name,
        seconds=1,
        not_asked=(Gate.ATTACKS,),
    )
    with Journal(tmp_path / "sources" / "builds" / "a.jsonl") as journal:
        journal.append(entry)

    def counted() -> tuple[int, int]:
        said = CliRunner(env={"ENVFARM_HOME": str(tmp_path)}).invoke(commands.report, ["--format", "json"])
        (row,) = json.loads(said.stdout)["rows"]
        return row["valid"], row["unchecked"]

    assert counted() == (0, 1)
    catalogue = TaskCatalogue(settings(tmp_path).catalogue)
    asyncio.run(catalogue.add_validated(task, report))
    catalogue.close()
    assert counted() == (1, 0)


def test_whoever_validates_is_told_of_a_report_that_is_not_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = make_task(name="acme/rockets-11111111")
    complete = ValidationReport(
        task=task.digest, environment=make_environment(), provider="local", created_at=task.created_at, gates=passed_gates()
    )
    quick = complete.model_copy(update={"gates": tuple(g for g in complete.gates if g.gate is not Gate.ATTACKS)})
    catalogue = TaskCatalogue(settings(tmp_path).catalogue)
    asyncio.run(catalogue.add(task))

    def said(report: ValidationReport) -> str:
        asyncio.run(commands.keep(catalogue, task.name, report))
        return "".join(capfd.readouterr())

    assert "not stored" not in said(quick)
    assert "not stored" not in said(complete)
    assert "not stored: the earlier report of local boxes" in said(quick)
    catalogue.close()

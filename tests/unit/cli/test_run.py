"""The episodes of `envfarm run`."""

from datetime import UTC, datetime
from pathlib import Path

from envfarm.cli.run import _specs
from envfarm.core import digest
from envfarm.core.episode import Budgets
from envfarm.core.ids import TaskDigest
from envfarm.stores.catalogue_lookup import TaskRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
ROW = TaskRow(
    digest=TaskDigest(digest.of_bytes(b"task")),
    name="made-up/t0",
    kind="",
    language="",
    licence="",
    repository="",
    source_digest="",
    source_url="",
    created_at=AT,
    added_at=AT,
    state="valid",
    why="",
    archive_bytes=0,
)


def seeds(name: str, seed: int | None) -> list[int]:
    options = {"name": name, "policy": ("nop",), "group": 3, "sandbox": "local", "seed": seed, **Budgets().model_dump()}
    return [spec.seed for spec in _specs([ROW], options)]


def test_a_run_has_the_seed_that_is_given_or_one_of_its_name() -> None:
    assert seeds("a", 5) == seeds("b", 5) == [5, 6, 7]
    assert seeds("a", None) == seeds("a", None)
    assert seeds("a", None) != seeds("b", None)


def test_a_run_without_a_name_is_named_after_what_a_policys_file_says(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"

    def named(content: str) -> str:
        file.write_text(content)
        options = {"name": "", "policy": (f"openai_chat:@{file}",), "group": 1, "sandbox": "local", "seed": None, **Budgets().model_dump()}
        (spec,) = _specs([ROW], options)
        return spec.run_id

    assert named('model = "m"') == named("model = 'm'") != named('model = "n"')

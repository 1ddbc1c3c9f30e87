"""What the doctor says of a home that is none."""

from pathlib import Path

import pytest

from envfarm.sandboxes import capabilities


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("below", "said"), [("", "it is a file, not a directory"), ("deeper/still", "Not a directory")])
def test_a_file_in_the_place_of_the_home_is_told_once_and_as_such(tmp_path: Path, below: str, said: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = capabilities.probe(file / below)
    home = next(c for c in found if c.name == "home")
    assert (home.ok, home.needed) == (False, True)
    assert said in home.why_not
    assert "ENVFARM_HOME" in home.what_to_do
    assert not [c for c in found if "report this" in c.what_to_do]

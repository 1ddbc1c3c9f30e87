"""What a farm says of boxes that this installation has no client for."""

import sys
from pathlib import Path

import pytest

from envfarm.core.errors import UsageError
from envfarm.settings import read
from envfarm.wiring import Farm


def test_a_missing_client_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    monkeypatch.delitem(sys.modules, "envfarm.sandboxes.docker", raising=False)
    with pytest.raises(UsageError, match="is not installed") as told:
        Farm(read().model_copy(update={"home": tmp_path})).provider("docker")
    assert told.value.hint == "pip install 'envfarm[docker]'"

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from envfarm.api.cursors import COUNT, decode, encode
from envfarm.core.errors import UsageError
from envfarm.stores.episode_lists import EpisodePlace

PLACE = EpisodePlace(created=1764280000.123, rollout="run~1", position=7, id="Ü")
NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@pytest.mark.parametrize(("kind", "place"), [(COUNT, 0), (COUNT, 12), (NAMES, ("a", "?>")), (TypeAdapter(EpisodePlace), PLACE)])
def test_a_place_comes_back_as_it_was_given_out(kind: TypeAdapter[Any], place: object) -> None:
    cursor = encode(place)
    assert cursor.replace("-", "").replace("_", "").isalnum(), "it needs no quoting in an address"
    assert decode(kind, cursor, None) == place
    assert decode(kind, "", "the first") == "the first"


@pytest.mark.parametrize(
    "cursor", ["made up", "é", "=", encode(-1), encode(2**31), encode(1.5), encode(True), encode("7"), encode(None), encode(["a"])]
)
def test_what_was_not_given_out_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="not one of this farm's for this list"):
        decode(COUNT, cursor, 0)


def test_an_episodes_place_is_one_that_a_database_can_look_for() -> None:
    with pytest.raises(ValidationError):
        EpisodePlace(created=1.0, rollout="", position=2**31, id="")

"""A budget that is none is refused by its type, wherever it comes from."""

import json
import math

import pytest
from pydantic import ValidationError

from envfarm.core.episode import Budgets, EpisodeSpec
from envfarm.testing.factories import make_spec

FIELDS = tuple(Budgets.model_fields)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [0, -1, -0.5, math.inf, math.nan])
def test_a_budget_is_positive_and_finite(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        Budgets.model_validate({field: value})


@pytest.mark.parametrize("field", FIELDS)
def test_a_stored_spec_with_another_budget_is_not_read(field: str) -> None:
    stored = make_spec().model_dump(mode="json")
    stored["budgets"][field] = -1
    with pytest.raises(ValidationError, match=f"budgets.{field}"):
        EpisodeSpec.model_validate_json(json.dumps(stored))


def test_the_smallest_budgets_are_budgets() -> None:
    smallest = dict.fromkeys(FIELDS, 1)
    assert Budgets.model_validate(smallest).model_dump() == smallest

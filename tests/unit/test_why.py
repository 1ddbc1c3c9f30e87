from envfarm.core import why
from envfarm.core.errors import Cause
from envfarm.core.outcome import Invalid


def test_what_was_called_off_did_not_fail() -> None:
    told = why.in_full(Invalid(Cause.CANCELLED.value, retryable=False, detail="its tenant called it off"))
    assert told == ["invalid, and not a zero: it was called off", "its tenant called it off"]
    assert why.in_full(Invalid("store", retryable=True, detail=""))[0].startswith("invalid, and not a zero: keeping what happened failed")

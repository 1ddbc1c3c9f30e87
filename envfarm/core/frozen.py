"""The model that every noun crossing a boundary (disk, HTTP, a cluster) derives from."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value: unknown keys are refused, so that a misspelt field is an error and not a default.

    So are numbers that are none or infinite: JSON cannot say them, and what is written in their place is not read again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64")

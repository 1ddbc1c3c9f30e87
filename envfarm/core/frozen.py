"""The model that every noun crossing a boundary (disk, HTTP, a cluster) derives from."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value: unknown keys are refused, so that a misspelt field is an error and not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

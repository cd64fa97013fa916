"""What every table of the settings file has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)

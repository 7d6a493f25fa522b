"""What the models of all sections share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys and values of another type are refused; nothing changes once it is read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

"""What the models of all sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Unknown keys and values of another type are refused; nothing changes once it is read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Resource(Strict):
    """One declared piece of desired state."""

    needs: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (),
        description="Addresses of resources that are carried out before this one.",
        examples=[["collections.publications"]],
    )
    description: str | None = Field(None, description="What it is for, shown in the plan.")
    protect: bool = Field(
        False,
        description="true: nothing that exists is deleted or overwritten; such changes are listed as blocked and left.",
    )

"""What the models of all sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reconciler.plan.rules import RuleId


class Strict(BaseModel):
    """Unknown keys and values of another type are refused; nothing changes once it is read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class Resource(Strict):
    """One declared piece of desired state."""

    needs: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (),
        description="Addresses of resources that are carried out before this one.",
        examples=[["collections.publications"]],
    )
    description: str | None = Field(None, description="What it is for, shown in the plan.")
    allow: Annotated[tuple[RuleId, ...], Field(strict=False)] = Field(
        (),
        description="Numbers of rules whose risks are meant here: a plan that bears another one that stops ends with exit code 4. "
        "A comment `# reconciler: allow R004` says the same.",
        examples=[["R004"]],
    )
    protect: bool = Field(
        False,
        description="true: nothing that exists is deleted or overwritten; such changes are listed as blocked and left.",
    )

"""What auth-core must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict


class Dropped(TypedDict, total=False):
    """One thing that a verdict asked for and that was not applied."""

    field: str
    why: str
    values: list[str]


class _Decided(TypedDict):
    decision: Literal["allow", "deny"]
    source: str
    status: str


class Outcome(_Decided, total=False):
    """The final outcome of an event. ``code`` and ``reason`` are there on a deny; ``reason`` is never for the end user."""

    code: str
    reason: str
    claims: dict[str, Any]
    roles: list[str]
    permissions: list[str]
    audit: dict[str, Any]
    age_ms: int
    dropped: list[Dropped]


@dataclass(frozen=True)
class Answer:
    """An event with its outcome. Without an action for the trigger, there is no invocation and no action."""

    event_id: str
    invocation_id: str | None
    action_id: str | None
    outcome: Outcome
    #: The outcome as the database wrote it: numbers that a float cannot hold stand here as they were written.
    json: str

    @property
    def allows(self) -> bool:
        """Whether the auth event goes on."""
        return self.outcome["decision"] == "allow"

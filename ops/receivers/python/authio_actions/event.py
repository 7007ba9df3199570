"""What an endpoint is asked."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Trigger = Literal["pre_authenticate", "post_authenticate", "pre_token_mint", "post_token_mint", "pre_register", "post_register"]


class Project(TypedDict):
    id: str


class User(TypedDict, total=False):
    """Who signs in or up; before registration there is no id."""

    id: str | None
    email: str | None
    email_verified: bool | None


class Session(TypedDict, total=False):
    id: str | None
    organization_id: str | None


class Token(TypedDict, total=False):
    """The token that is about to be minted, or was."""

    token_type: str | None
    roles: list[str] | None
    permissions: list[str] | None
    ttl_seconds: int | None


class Request(TypedDict, total=False):
    """The request of the person who signs in."""

    ip: str | None
    user_agent: str | None


class _Envelope(TypedDict):
    event_id: str
    trigger: Trigger
    occurred_at: str
    project: Project


class Event(_Envelope, total=False):
    """An auth event. The first four members are always there; there may be more than stand here."""

    user: User | None
    session: Session | None
    token: Token | None
    request: Request | None
    metadata: dict[str, Any] | None

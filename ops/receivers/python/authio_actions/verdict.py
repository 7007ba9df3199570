"""What an endpoint answers."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Verdict(TypedDict, total=False):
    """Every member is optional; an empty verdict allows."""

    decision: Literal["allow", "deny"]
    deny_reason: str
    deny_code: str
    override_claims: dict[str, Any]
    override_roles: list[str]
    override_permissions: list[str]
    append_audit: dict[str, Any]


def allow(
    *,
    claims: dict[str, Any] | None = None,
    roles: list[str] | None = None,
    permissions: list[str] | None = None,
    audit: dict[str, Any] | None = None,
) -> Verdict:
    """The auth event goes on.

    On ``pre_token_mint``, ``claims`` are merged into the token, and ``roles`` and ``permissions`` replace its own (an
    empty list takes all away). ``audit`` stands in the audit entry: at most 4,096 bytes of JSON.
    """
    verdict: Verdict = {"decision": "allow"}
    if claims is not None:
        verdict["override_claims"] = claims
    if roles is not None:
        verdict["override_roles"] = roles
    if permissions is not None:
        verdict["override_permissions"] = permissions
    if audit is not None:
        verdict["append_audit"] = audit
    return verdict


def deny(code: str, reason: str | None = None, *, audit: dict[str, Any] | None = None) -> Verdict:
    """The auth event ends here. The client gets ``code``; ``reason`` is for the audit log alone."""
    verdict: Verdict = {"decision": "deny", "deny_code": code}
    if reason is not None:
        verdict["deny_reason"] = reason
    if audit is not None:
        verdict["append_audit"] = audit
    return verdict

"""The signature of a request, and of an answer.

A header is ``t=<Unix seconds>,v1=<hex>``: each ``v1`` is the HMAC-SHA256 over ``t``, a dot and the raw body,
with a whole secret (``asec_`` and all) as its key. During a rotation there are two ``v1``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable

#: How far a signature's time may be from ours, in seconds.
TOLERANCE_S = 300

_TIME = re.compile(r"[0-9]{1,15}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)


def verify(secrets: Iterable[str], header: str | None, body: bytes, now: float | None = None) -> bool:
    """Whether ``header`` (Authio-Signature) is a fresh signature of the raw ``body`` under one of ``secrets``.

    Give both secrets while one is rotated. ``now`` is for tests; it is the present time otherwise. Everything that
    could match is compared in constant time. Without a header, or with an empty secret, nothing is valid.
    """
    if not header:
        return False
    times: list[str] = []
    given: list[str] = []
    for element in header.split(","):
        name, _, value = element.strip(" \t").partition("=")
        if name == "t":
            times.append(value)
        elif name == "v1" and _SIGNATURE.fullmatch(value):
            given.append(value)
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        return False
    if abs(int(time.time() if now is None else now) - int(times[0])) > TOLERANCE_S:
        return False
    matches = False
    for secret in secrets:
        if not secret:
            continue
        expected = _mac(secret, times[0], body)
        for signature in given:
            matches |= hmac.compare_digest(expected, signature)
    return matches


def sign(secret: str, body: bytes, now: float | None = None) -> str:
    """The header Authio-Response-Signature of an answer's raw ``body``."""
    if not secret:
        raise ValueError("the secret is empty; it is the asec_ text of the action")
    at = str(int(time.time() if now is None else now))
    return f"t={at},v1={_mac(secret, at, body)}"


def _mac(secret: str, at: str, body: bytes) -> str:
    return hmac.new(secret.encode("utf-8", "surrogatepass"), at.encode() + b"." + body, hashlib.sha256).hexdigest()

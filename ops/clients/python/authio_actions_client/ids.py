"""Ids as the fleet makes them."""

from __future__ import annotations

import secrets
import time

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_event_id() -> str:
    """``evt_`` and a UUIDv7 in 26 characters of Crockford's base 32: report an event again under the same one."""
    bits = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return "evt_" + "".join(_LETTERS[bits >> shift & 31] for shift in range(125, -1, -5))

"""From a request to an answer, for any framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .event import Event
from .signature import sign, verify
from .verdict import Verdict


@dataclass(frozen=True)
class Answer:
    """What the framework sends back."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Receiver:
    """Checks requests and signs answers.

    ``secrets`` are the action's: the current one first and, while it is rotated, the previous one.
    """

    secrets: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.secrets, str) or not self.secrets or not all(self.secrets):
            raise ValueError('secrets is empty, or has an empty one; accepted is ["asec_…"], or two while one is rotated')

    def answer(self, body: bytes, signature: str | None, decide: Callable[[Event], Verdict]) -> Answer:
        """Answers one request.

        ``body`` is the raw body and ``signature`` its header Authio-Signature. What is not signed gets 401 and what is
        no event 400; ``decide`` sees neither. What it raises is yours to handle: answer 500, and the action's fail mode
        decides.
        """
        if not verify(self.secrets, signature, body):
            return self._signed(401, {"code": "invalid_signature"})
        try:
            event = json.loads(body)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return self._signed(400, {"code": "invalid_event"})
        return self._signed(200, decide(event))  # type: ignore[arg-type]

    def _signed(self, status: int, value: object) -> Answer:
        body = json.dumps(value, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Authio-Response-Signature": sign(self.secrets[0], body)}
        return Answer(status, headers, body)

"""What both clients share: the statements, and whom a notification is for."""

from __future__ import annotations

import json
import secrets
from typing import Any

from .outcome import Answer, Outcome

ENQUEUE_MANY = "select invocation_id, event_id, action_id, outcome, wait_ms from actions.enqueue_many(%s::text::json, %s)"
RESULTS = "select invocation_id, outcome from actions.results(%s)"
ABANDON = "select outcome from actions.abandon(%s)"

#: An answer to an enqueue that takes longer comes from a server that is away.
PATIENCE_S = 5.0
#: Beyond an invocation's deadline, the database may take so long to say its outcome.
GRACE_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
#: While nothing is heard for so long, the outcomes are asked for.
SILENCE_S = 0.5
#: The most events of one statement.
BATCH = 128
#: Results that came before their invocation was known: so many are kept.
EARLY = 10_000


class ActionsError(Exception):
    """There is no outcome. What auth-core does then is its own policy: nobody decided."""

    def __init__(self, message: str, *, blames_event: bool = False) -> None:
        super().__init__(message)
        #: Whether the event is at fault, so that reporting it again changes nothing.
        self.blames_event = blames_event


class ReplyTo:
    """A random channel, and a random token that every result for us carries."""

    def __init__(self) -> None:
        self.channel = "actions_reply_" + secrets.token_hex(16)
        self.token = secrets.token_hex(16)
        self.text = f"{self.channel}/{self.token}"

    def read(self, payload: str) -> list[tuple[str, Outcome | None]]:
        """The results in a notification; without an outcome where it has to be asked for.

        Anybody in the database may notify any channel, so no outcome is believed without the token.
        """
        try:
            elements: Any = json.loads(payload)
        except ValueError:
            return []
        found: list[tuple[str, Outcome | None]] = []
        for element in elements if isinstance(elements, list) else []:
            if isinstance(element, dict) and isinstance(element.get("id"), str):
                is_ours = isinstance(element.get("token"), str) and secrets.compare_digest(element["token"].encode(), self.token.encode())
                found.append((element["id"], element.get("outcome") if is_ours else None))
        return found


def answer(row: tuple[Any, ...], outcome: Outcome) -> Answer:
    """An answer from the row of enqueue."""
    invocation_id, event_id, action_id = row[:3]
    return Answer(event_id, invocation_id, action_id, outcome)

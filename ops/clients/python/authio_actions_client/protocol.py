"""What both clients share: the statements, and whom a notification is for."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, NamedTuple

from .outcome import Outcome

COLUMNS = "invocation_id, event_id, action_id, outcome::text, wait_ms"
EPOCH = "select actions.server_epoch()"
ENQUEUE_MANY = f"select {COLUMNS} from actions.enqueue_many(%s::text::json, %s)"
ENQUEUE_AGAIN = f"select {COLUMNS} from actions.enqueue_again(%s::text[], %s::text[], %s::text[]::json[], %s::text[], %s, null, %s, %s::text[])"
RESULTS = "select invocation_id, outcome::text from actions.results(%s)"
ABANDON = "select outcome::text from actions.abandon(%s)"
#: The server crashed after something was asked, and knows nothing of it.
FORGOTTEN = "08007"

#: For so long an event is reported again while the database is away.
PATIENCE_S = 5.0
#: How long one answer to an enqueue may take.
ANSWER_S = 3.0
#: Beyond an invocation's deadline, the database may take so long to say its outcome.
GRACE_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
#: So often outcomes are asked for that nothing was heard of: a notification may be lost, and a line may be dead.
SILENCE_S = 0.5
#: The most events of one statement.
BATCH = 128
#: Results that came before their invocation was known: so many are kept.
EARLY = 10_000

#: A line that went dead is noticed within about ten seconds.
KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000,
}  # fmt: skip

#: The form of a W3C traceparent; what has another is passed over, here as in the database.
TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?", re.ASCII)

_ID = re.compile(r"inv_[0-9A-Z]{26}", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: A number that a float, or another language, may not hold as it was written.
_DELICATE = re.compile(r"[0-9]{16}|[0-9][.eE]")


class ActionsError(Exception):
    """There is no outcome. What auth-core does then is its own policy: nobody decided."""

    def __init__(self, message: str, *, blames_event: bool = False) -> None:
        super().__init__(message)
        #: Whether the event is at fault, so that reporting it again changes nothing.
        self.blames_event = blames_event


class Told(NamedTuple):
    """An outcome, and its JSON as the database wrote it."""

    outcome: Outcome
    text: str


def told(text: str) -> Told:
    """An outcome from its text; one that this language cannot read is an error of its own."""
    try:
        return Told(json.loads(text), text)
    except (ValueError, RecursionError) as error:
        raise ActionsError(f"the outcome cannot be read: {error}") from error


class ReplyTo:
    """A random channel, and a random token that every result for us carries."""

    def __init__(self) -> None:
        self.channel = "actions_reply_" + secrets.token_hex(16)
        self.token = secrets.token_hex(16)
        self.text = f"{self.channel}/{self.token}"

    def read(self, payload: str) -> list[tuple[str, Told | None]]:
        """The results in a notification; without an outcome where it has to be asked for.

        Anybody in the database may notify any channel, so no outcome is believed without the token, and nothing that is
        written there may be an error.
        """
        try:
            elements: Any = json.loads(payload)
        except (ValueError, RecursionError):
            return []
        is_exact = _DELICATE.search(_STRING.sub("", payload)) is None
        found: list[tuple[str, Told | None]] = []
        for element in elements if isinstance(elements, list) else []:
            if not isinstance(element, dict):
                continue
            id, token, outcome = element.get("id"), element.get("token"), element.get("outcome")
            if isinstance(id, str) and _ID.fullmatch(id):
                is_ours = isinstance(token, str) and token.isascii() and secrets.compare_digest(token, self.token)
                is_told = is_ours and is_exact and isinstance(outcome, dict)
                found.append((id, Told(outcome, json.dumps(outcome)) if is_told else None))  # type: ignore[arg-type]
        return found

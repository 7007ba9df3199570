"""For auth-core: ask a customer's action about an auth event, and wait for the outcome."""

from .aio import AsyncClient
from .ids import new_event_id
from .outcome import Answer, Dropped, Outcome
from .protocol import ActionsError
from .sync import Client

__all__ = ["ActionsError", "Answer", "AsyncClient", "Client", "Dropped", "Outcome", "new_event_id"]

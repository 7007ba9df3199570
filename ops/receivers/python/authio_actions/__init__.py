"""An endpoint for Authio Actions: check a request's signature, read its event, answer with a verdict."""

from .event import Event, Project, Request, Session, Token, Trigger, User
from .receiver import Answer, Receiver
from .signature import TOLERANCE_S, sign, verify
from .verdict import Verdict, allow, deny

__all__ = [
    "TOLERANCE_S",
    "Answer",
    "Event",
    "Project",
    "Receiver",
    "Request",
    "Session",
    "Token",
    "Trigger",
    "User",
    "Verdict",
    "allow",
    "deny",
    "sign",
    "verify",
]

"""One decision a trigger, as small as it may be."""

from authio_actions import Event, Verdict, allow, deny

SANCTIONED = {"203.0.113.7"}
ROLES = {"ada@acme.com": ["billing_admin", "auditor"]}


def pre_authenticate(event: Event) -> Verdict:
    """Before anybody is asked for a password: refuse an address."""
    if (event.get("request") or {}).get("ip") in SANCTIONED:
        return deny("compliance_block", "the address is on our list")
    return allow()


def post_authenticate(event: Event) -> Verdict:
    """The person has proved who it is: ask for more where the address is not proved."""
    if not (event.get("user") or {}).get("email_verified"):
        return deny("requires_2fa", "the e-mail address is not verified")
    return allow()


def pre_token_mint(event: Event) -> Verdict:
    """Right before the token is signed: the roles are ours."""
    email = ((event.get("user") or {}).get("email") or "").lower()
    return allow(roles=ROLES[email], claims={"team": "billing"}) if email in ROLES else allow()


def post_token_mint(event: Event) -> Verdict:
    """The token is out; this decides nothing."""
    return allow(audit={"seen": event["event_id"]})


def pre_register(event: Event) -> Verdict:
    """Before there is an account: no addresses that are thrown away."""
    if ((event.get("user") or {}).get("email") or "").endswith("@mailinator.example"):
        return deny("disposable_email", "an address of a disposable kind")
    return allow()


def post_register(event: Event) -> Verdict:
    """There is an account; this decides nothing."""
    return allow(audit={"welcome": True})


DECISIONS = {
    decide.__name__: decide
    for decide in (pre_authenticate, post_authenticate, pre_token_mint, post_token_mint, pre_register, post_register)
}


def decide(event: Event) -> Verdict:
    """By the event's trigger. One that we do not know yet is allowed."""
    decision = DECISIONS.get(event["trigger"])
    return decision(event) if decision else allow()

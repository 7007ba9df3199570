/** One decision a trigger, as small as it may be. */
import { type Decide, type Event, type Trigger, type Verdict, allow, deny } from "../src/index.js";

const SANCTIONED = new Set(["203.0.113.7"]);
const ROLES = new Map([["ada@acme.com", ["billing_admin", "auditor"]]]);

const DECISIONS: Record<Trigger, (event: Event) => Verdict> = {
  // Before anybody is asked for a password: refuse an address.
  pre_authenticate: (event) =>
    SANCTIONED.has(event.request?.ip ?? "") ? deny("compliance_block", "the address is on our list") : allow(),
  // The person has proved who it is: ask for more where the address is not proved.
  post_authenticate: (event) =>
    event.user?.email_verified ? allow() : deny("requires_2fa", "the e-mail address is not verified"),
  // Right before the token is signed: the roles are ours.
  pre_token_mint: (event) => {
    const roles = ROLES.get((event.user?.email ?? "").toLowerCase());
    return roles ? allow({ roles, claims: { team: "billing" } }) : allow();
  },
  // The token is out; this decides nothing.
  post_token_mint: (event) => allow({ audit: { seen: event.event_id } }),
  // Before there is an account: no addresses that are thrown away.
  pre_register: (event) =>
    event.user?.email?.endsWith("@mailinator.example")
      ? deny("disposable_email", "an address of a disposable kind")
      : allow(),
  // There is an account; this decides nothing.
  post_register: () => allow({ audit: { welcome: true } }),
};

/** By the event's trigger. One that we do not know yet is allowed. */
export const decide: Decide = (event) => DECISIONS[event.trigger]?.(event) ?? allow();

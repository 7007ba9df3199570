/** The moment of an auth event. */
export type Trigger =
  | "pre_authenticate"
  | "post_authenticate"
  | "pre_token_mint"
  | "post_token_mint"
  | "pre_register"
  | "post_register";

/** An auth event, as an endpoint is asked about it. There may be more members than stand here. */
export interface Event {
  /** `evt_…`; the same one again is the same event. */
  event_id: string;
  trigger: Trigger;
  /** RFC 3339 in UTC. */
  occurred_at: string;
  project: { id: string };
  /** Who signs in or up; before registration there is no id. */
  user?: { id?: string | null; email?: string | null; email_verified?: boolean | null } | null;
  session?: { id?: string | null; organization_id?: string | null } | null;
  /** The token that is about to be minted, or was. */
  token?: {
    token_type?: string | null;
    roles?: string[] | null;
    permissions?: string[] | null;
    ttl_seconds?: number | null;
  } | null;
  /** The request of the person who signs in. */
  request?: { ip?: string | null; user_agent?: string | null } | null;
  metadata?: Record<string, unknown> | null;
}

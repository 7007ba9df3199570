/** What an endpoint answers. Every member is optional; an empty verdict allows. */
export interface Verdict {
  decision?: "allow" | "deny";
  /** For the audit log; the person who signs in never sees it. */
  deny_reason?: string;
  /** What the client gets. */
  deny_code?: string;
  /** On `pre_token_mint`: merged into the token. */
  override_claims?: Record<string, unknown>;
  /** On `pre_token_mint`, where the project allows it: replace the token's. An empty list takes all away. */
  override_roles?: string[];
  override_permissions?: string[];
  /** Stands in the audit entry: at most 4,096 bytes of JSON. */
  append_audit?: Record<string, unknown>;
}

/** What an allowed event may change. */
export interface Changes {
  claims?: Record<string, unknown>;
  roles?: string[];
  permissions?: string[];
  audit?: Record<string, unknown>;
}

/** The auth event goes on. */
export function allow(changes: Changes = {}): Verdict {
  return {
    decision: "allow",
    ...(changes.claims && { override_claims: changes.claims }),
    ...(changes.roles && { override_roles: changes.roles }),
    ...(changes.permissions && { override_permissions: changes.permissions }),
    ...(changes.audit && { append_audit: changes.audit }),
  };
}

/** The auth event ends here. The client gets `code`; `reason` is for the audit log alone. */
export function deny(code: string, reason?: string, audit?: Record<string, unknown>): Verdict {
  return {
    decision: "deny",
    deny_code: code,
    ...(reason !== undefined && { deny_reason: reason }),
    ...(audit && { append_audit: audit }),
  };
}

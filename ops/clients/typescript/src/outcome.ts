/** The final outcome of an event: what auth-core must do. */
export interface Outcome {
  decision: "allow" | "deny";
  /** Who decided: `verdict`, `fail_open`, `fail_closed`, `no_action`, `killed`, `condition`, `last_known`, `break_glass`. */
  source: string;
  status: string;
  /** On a deny: for the client. */
  code?: string;
  /** On a deny: for the audit log, never for the end user. */
  reason?: string;
  claims?: Record<string, unknown>;
  roles?: string[];
  permissions?: string[];
  audit?: Record<string, unknown>;
  age_ms?: number;
  /** Everything that was asked for and not applied. */
  dropped?: { field: string; why: string; values?: string[] }[];
}

/** An event with its outcome. Without an action for the trigger there is no invocation and no action. */
export interface Answer {
  eventId: string;
  invocationId: string | null;
  actionId: string | null;
  outcome: Outcome;
  /** The outcome as the database wrote it: numbers that JavaScript cannot hold stand here as they were written. */
  json: string;
}

/** There is no outcome. What auth-core does then is its own policy: nobody decided. */
export class ActionsError extends Error {
  override readonly name = "ActionsError";

  /** `blamesEvent`: the event is at fault, so that reporting it again changes nothing. */
  constructor(
    message: string,
    readonly blamesEvent = false,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

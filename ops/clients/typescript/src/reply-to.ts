import { randomBytes, timingSafeEqual } from "node:crypto";

import type { Outcome } from "./outcome.js";

/** A result in a notification; without an outcome where it has to be asked for. */
export interface Result {
  id: string;
  told: Told | null;
}

/** An outcome, and its JSON as the database wrote it. */
export interface Told {
  outcome: Outcome;
  json: string;
}

const STRINGS = /"(?:[^"\\]|\\.)*"/g;
/** A number that JavaScript may not hold as it was written. */
const DELICATE = /[0-9]{16}|[0-9][.eE]/;

/** A random channel, and a random token that every result for us carries. */
export class ReplyTo {
  readonly channel = `actions_reply_${randomBytes(16).toString("hex")}`;
  readonly token = randomBytes(16).toString("hex");
  readonly text = `${this.channel}/${this.token}`;

  /** Anybody in the database may notify any channel, so no outcome is believed without the token. */
  read(payload: string): Result[] {
    let elements: unknown;
    try {
      elements = JSON.parse(payload);
    } catch {
      return [];
    }
    if (!Array.isArray(elements)) return [];
    const isExact = !DELICATE.test(payload.replaceAll(STRINGS, ""));
    return (elements as { id?: unknown; token?: unknown; outcome?: unknown }[])
      .filter((element) => typeof element?.id === "string" && /^inv_[0-9A-Z]{26}$/.test(element.id))
      .map(({ id, token, outcome }) => ({ id: id as string, told: isExact && this.#isOurs(token) ? tell(outcome) : null }));
  }

  #isOurs(token: unknown): boolean {
    const given = Buffer.from(typeof token === "string" ? token : "");
    const own = Buffer.from(this.token);
    return given.length === own.length && timingSafeEqual(given, own);
  }
}

function tell(outcome: unknown): Told | null {
  if (typeof outcome !== "object" || outcome === null || Array.isArray(outcome)) return null;
  return { outcome: outcome as Outcome, json: JSON.stringify(outcome) };
}

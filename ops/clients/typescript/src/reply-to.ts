import { randomBytes, timingSafeEqual } from "node:crypto";

import type { Outcome } from "./outcome.js";

/** A result in a notification; without an outcome where it has to be asked for. */
export interface Result {
  id: string;
  outcome: Outcome | null;
}

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
    return (elements as { id?: unknown; token?: unknown; outcome?: Outcome }[])
      .filter((element) => typeof element?.id === "string")
      .map((element) => ({ id: element.id as string, outcome: this.#isOurs(element.token) ? (element.outcome ?? null) : null }));
  }

  #isOurs(token: unknown): boolean {
    const given = Buffer.from(typeof token === "string" ? token : "");
    const own = Buffer.from(this.token);
    return given.length === own.length && timingSafeEqual(given, own);
  }
}

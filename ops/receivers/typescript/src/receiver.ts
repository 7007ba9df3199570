import type { Event } from "./event.js";
import { sign, verify } from "./signature.js";
import type { Verdict } from "./verdict.js";

/** What the framework sends back. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** Gives a verdict. What it throws is yours to handle: answer 500, and the action's fail mode decides. */
export type Decide = (event: Event) => Verdict | Promise<Verdict>;

/** Checks requests and signs answers, for any framework. */
export class Receiver {
  readonly #secrets: readonly string[];

  /** `secrets` are the action's: the current one first and, while it is rotated, the previous one. */
  constructor(secrets: readonly string[]) {
    if (!Array.isArray(secrets) || secrets.length === 0 || secrets.some((secret) => !secret)) {
      throw new TypeError('secrets is empty, or has an empty one; accepted is ["asec_…"], or two while one is rotated');
    }
    this.#secrets = [...secrets];
  }

  /** Answers one request: its raw body, and its header Authio-Signature. `decide` sees only what is signed. */
  async answer(body: Uint8Array, signature: string | null | undefined, decide: Decide): Promise<Answer> {
    if (!verify(this.#secrets, signature, body)) return this.#signed(401, { code: "invalid_signature" });
    let event: unknown;
    try {
      event = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    } catch {
      event = undefined;
    }
    if (typeof event !== "object" || event === null || Array.isArray(event)) {
      return this.#signed(400, { code: "invalid_event" });
    }
    return this.#signed(200, await decide(event as Event));
  }

  #signed(status: number, value: unknown): Answer {
    const body = JSON.stringify(value);
    const signature = sign(this.#secrets[0] as string, Buffer.from(body));
    return { status, headers: { "content-type": "application/json", "authio-response-signature": signature }, body };
  }
}

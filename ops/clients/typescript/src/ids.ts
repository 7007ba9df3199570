import { randomBytes } from "node:crypto";

const LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** `evt_` and a UUIDv7 in 26 characters of Crockford's base 32: report an event again under the same one. */
export function newEventId(): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const bits = BigInt(`0x${bytes.toString("hex")}`);
  let text = "evt_";
  for (let shift = 125n; shift >= 0n; shift -= 5n) text += LETTERS[Number((bits >> shift) & 31n)];
  return text;
}

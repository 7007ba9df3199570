import { createHmac, timingSafeEqual } from "node:crypto";

/** How far a signature's time may be from ours, in seconds. */
export const TOLERANCE_S = 300;

/**
 * Whether `header` (Authio-Signature) is a fresh signature of the raw `body` under one of `secrets`.
 *
 * A header is `t=<Unix seconds>,v1=<hex>`: each `v1` is the HMAC-SHA256 over `t`, a dot and the raw body, with a whole
 * secret (`asec_` and all) as its key. Give both secrets while one is rotated. `nowS` is for tests. Everything that could
 * match is compared in constant time. Without a header, or with an empty secret, nothing is valid.
 */
export function verify(
  secrets: readonly string[],
  header: string | null | undefined,
  body: Uint8Array,
  nowS: number = Date.now() / 1000,
): boolean {
  const times: string[] = [];
  const given: Buffer[] = [];
  for (const element of (header ?? "").split(",")) {
    const trimmed = element.replace(/^[ \t]+|[ \t]+$/g, "");
    const equals = trimmed.indexOf("=");
    const [name, value] = equals < 0 ? [trimmed, ""] : [trimmed.slice(0, equals), trimmed.slice(equals + 1)];
    if (name === "t") times.push(value);
    else if (name === "v1" && /^[0-9a-f]{64}$/.test(value)) given.push(Buffer.from(value, "hex"));
  }
  const at = times[0];
  if (at === undefined || times.length !== 1 || !/^[0-9]{1,15}$/.test(at)) return false;
  if (Math.abs(Math.floor(nowS) - Number(at)) > TOLERANCE_S) return false;
  let matches = false;
  for (const secret of secrets) {
    if (secret === "") continue;
    const expected = mac(secret, at, body);
    for (const signature of given) matches = timingSafeEqual(expected, signature) || matches;
  }
  return matches;
}

/** The header Authio-Response-Signature of an answer's raw `body`. */
export function sign(secret: string, body: Uint8Array, nowS: number = Date.now() / 1000): string {
  if (secret === "") throw new TypeError("the secret is empty; it is the asec_ text of the action");
  const at = String(Math.floor(nowS));
  return `t=${at},v1=${mac(secret, at, body).toString("hex")}`;
}

function mac(secret: string, at: string, body: Uint8Array): Buffer {
  return createHmac("sha256", secret).update(`${at}.`).update(body).digest();
}

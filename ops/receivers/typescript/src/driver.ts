/** Checks signatures by JSON lines, to hold this library to others: see the README. */
import { createInterface } from "node:readline";

import { verify } from "./signature.js";

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === "") continue;
  const asked = JSON.parse(line) as { secrets: string[]; header: string | null; body_b64: string };
  const valid = verify(asked.secrets, asked.header, Buffer.from(asked.body_b64, "base64"));
  process.stdout.write(`${JSON.stringify({ valid })}\n`);
}

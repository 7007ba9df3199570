/** Reports events by JSON lines, to hold this client to others: see the README. */
import { createInterface } from "node:readline";

import { Client } from "./index.js";

interface Line {
  n: number;
  project_id: string;
  trigger: string;
  event: object;
}

const url = process.env["DATABASE_URL"];
if (!url) throw new Error("DATABASE_URL is not set; it is the URL of a login with the role actions_core");
const client = await Client.connect(url);

async function report(line: string): Promise<void> {
  let n: number | null = null;
  let said: string;
  try {
    const asked = JSON.parse(line) as Line;
    n = asked.n;
    const { outcome, json } = await client.invoke(asked.project_id, asked.trigger, asked.event);
    // The outcome as the database wrote it, whatever this language makes of its numbers.
    said = `{"n":${JSON.stringify(n)},"status":${JSON.stringify(outcome.status)},"outcome":${json}}`;
  } catch (error) {
    said = JSON.stringify({ n, status: "error", outcome: null, error: (error as Error).message });
  }
  process.stdout.write(`${said}\n`);
}

const reports: Promise<void>[] = [];
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== "") reports.push(report(line));
}
await Promise.all(reports);
await client.close();

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

async function report({ n, project_id, trigger, event }: Line): Promise<void> {
  const said = await client.invoke(project_id, trigger, event).then(
    ({ outcome }) => ({ n, status: outcome.status, outcome }),
    (error: Error) => ({ n, status: "error", outcome: null, error: error.message }),
  );
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

const reports: Promise<void>[] = [];
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== "") reports.push(report(JSON.parse(line) as Line));
}
await Promise.all(reports);
await client.close();

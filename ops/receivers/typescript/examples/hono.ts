/** With Hono, on Node or at the edge. */
import { Hono } from "hono";

import { type Decide, Receiver } from "../src/index.js";

export function app(secrets: string[], decide: Decide): Hono {
  const receiver = new Receiver(secrets);
  const app = new Hono();
  app.post("/authio-action", async (context) => {
    const body = new Uint8Array(await context.req.arrayBuffer());
    const answer = await receiver.answer(body, context.req.header("authio-signature"), decide);
    return new Response(answer.body, { status: answer.status, headers: answer.headers });
  });
  return app;
}

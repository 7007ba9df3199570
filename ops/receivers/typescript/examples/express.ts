/** With Express. The body has to stay raw: no express.json() before this route. */
import express from "express";

import { type Decide, Receiver } from "../src/index.js";

export function app(secrets: string[], decide: Decide): express.Express {
  const receiver = new Receiver(secrets);
  const app = express();
  app.post("/authio-action", express.raw({ type: () => true, limit: "2mb" }), async (request, response) => {
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const answer = await receiver.answer(body, request.get("authio-signature"), decide);
    response.status(answer.status).set(answer.headers).send(Buffer.from(answer.body));
  });
  return app;
}

/** With Fastify. The parser leaves the body as it came. */
import { type FastifyInstance, fastify } from "fastify";

import { type Decide, Receiver } from "../src/index.js";

export function app(secrets: string[], decide: Decide): FastifyInstance {
  const receiver = new Receiver(secrets);
  const app = fastify({ bodyLimit: 2 * 1024 * 1024 });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.post("/authio-action", async (request, reply) => {
    const signature = request.headers["authio-signature"];
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const answer = await receiver.answer(body, typeof signature === "string" ? signature : null, decide);
    return reply.code(answer.status).headers(answer.headers).send(Buffer.from(answer.body));
  });
  return app;
}

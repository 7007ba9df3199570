import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { app as express } from "../examples/express.js";
import { app as fastify } from "../examples/fastify.js";
import { app as hono } from "../examples/hono.js";
import { decide } from "../examples/triggers.js";
import { type Event, Receiver, type Trigger, allow, deny, sign, verify } from "../src/index.js";

const SECRET = `asec_${"1f".repeat(32)}`;
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

interface Vector {
  name: string;
  now: number;
  secrets: string[];
  header: string | null;
  body_b64: string;
  valid: boolean;
}

test("every vector", () => {
  const { signatures } = JSON.parse(readFileSync(here("../../../../vectors/signatures.json"), "utf8")) as { signatures: Vector[] };
  assert.ok(signatures.length > 30);
  for (const { name, now, secrets, header, body_b64, valid } of signatures) {
    assert.equal(verify(secrets, header, Buffer.from(body_b64, "base64"), now), valid, name);
  }
});

test("what is signed is valid, and nobody signs with an empty secret", () => {
  for (const body of ["", "{}", "\u0000é"].map((text) => Buffer.from(text))) {
    assert.ok(verify([SECRET], sign(SECRET, body), body));
  }
  assert.throws(() => sign("", Buffer.alloc(0)), /asec_/);
  for (const wrong of [[], [""], [SECRET, ""]]) assert.throws(() => new Receiver(wrong), /accepted is/);
});

test("an event is decided and the answer is signed", async () => {
  const body = Buffer.from('{"event_id":"evt_1","trigger":"pre_register"}');
  const seen: Event[] = [];
  const answer = await new Receiver([SECRET]).answer(body, sign(SECRET, body), (event) => {
    seen.push(event);
    return deny("no", "why");
  });
  assert.deepEqual([answer.status, JSON.parse(answer.body)], [200, { decision: "deny", deny_code: "no", deny_reason: "why" }]);
  assert.equal(seen[0]?.event_id, "evt_1");
  assert.ok(verify([SECRET], answer.headers["authio-response-signature"], Buffer.from(answer.body)));
});

test("what is not signed or no event is not decided", async () => {
  const never = () => assert.fail("it was asked");
  const receiver = new Receiver([SECRET]);
  const body = Buffer.from("{}");
  for (const signature of [null, undefined, "", sign("asec_other", body), sign(SECRET, body, Date.now() / 1000 - 302)]) {
    assert.equal((await receiver.answer(body, signature, never)).status, 401);
  }
  for (const text of ["", "[]", "7", "{", "null"]) {
    const body = Buffer.from(text);
    assert.equal((await receiver.answer(body, sign(SECRET, body), never)).status, 400, text);
  }
  const noText = Buffer.from([0x7b, 0xff, 0x7d]);
  assert.equal((await receiver.answer(noText, sign(SECRET, noText), never)).status, 400);
});

test("builders leave out what is not given", () => {
  assert.deepEqual(allow(), { decision: "allow" });
  assert.deepEqual(allow({ roles: [] }), { decision: "allow", override_roles: [] });
  assert.deepEqual(deny("no"), { decision: "deny", deny_code: "no" });
  assert.deepEqual(allow({ claims: { a: 1 }, permissions: ["p"], audit: { x: 1 } }), {
    decision: "allow",
    override_claims: { a: 1 },
    override_permissions: ["p"],
    append_audit: { x: 1 },
  });
});

test("each trigger has an example", async () => {
  const wanted: [Trigger, string | undefined][] = [
    ["pre_authenticate", "compliance_block"],
    ["post_authenticate", "requires_2fa"],
    ["pre_token_mint", undefined],
    ["post_token_mint", undefined],
    ["pre_register", "disposable_email"],
    ["post_register", undefined],
    ["one_of_next_year" as Trigger, undefined],
  ];
  const event = { event_id: "evt_1", occurred_at: "2026-11-26T00:00:00Z", project: { id: "p" }, request: { ip: "203.0.113.7" } };
  for (const [trigger, code] of wanted) {
    assert.equal((await decide({ ...event, trigger, user: { email: "x@mailinator.example" } })).deny_code, code, trigger);
  }
  const ada = await decide({ ...event, trigger: "pre_token_mint", user: { email: "Ada@acme.com" } });
  assert.deepEqual(ada.override_roles, ["billing_admin", "auditor"]);
});

/** Sends one signed and one unsigned event to a running framework. */
async function holds(post: (body: string, headers: Record<string, string>) => Promise<Response>): Promise<void> {
  // As the fleet writes it; another program would write these bytes in another way.
  const body = '{ "event_id":"evt_1", "trigger":"pre_register","n":1.0, "user":{"email":"x@mailinator.example"} }';
  const headers = { "content-type": "application/json", "authio-signature": sign(SECRET, Buffer.from(body)) };
  const answer = await post(body, headers);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  assert.equal((JSON.parse(text) as { deny_code: string }).deny_code, "disposable_email");
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
  assert.ok(verify([SECRET], answer.headers.get("authio-response-signature"), Buffer.from(text)));
  assert.equal((await post(`${body} `, headers)).status, 401);
}

test("with Express", async () => {
  const server = express([SECRET], decide).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/authio-action`;
  await holds((body, headers) => fetch(url, { method: "POST", body, headers: { ...headers, connection: "close" } }));
  server.close();
});

test("with Fastify", async () => {
  const server = fastify([SECRET], decide);
  const url = `${await server.listen({ host: "127.0.0.1", port: 0 })}/authio-action`;
  await holds((body, headers) => fetch(url, { method: "POST", body, headers: { ...headers, connection: "close" } }));
  await server.close();
});

test("with Hono", async () => {
  const server = hono([SECRET], decide);
  await holds(async (body, headers) => server.request("/authio-action", { method: "POST", body, headers }));
});

test("the driver answers line by line", () => {
  const body = Buffer.from("{}");
  const lines = [
    { secrets: [SECRET], header: sign(SECRET, body), body_b64: body.toString("base64") },
    { secrets: [SECRET], header: null, body_b64: "" },
  ];
  const input = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const { stdout } = spawnSync(process.execPath, [here("../src/driver.js")], { input, encoding: "utf8" });
  assert.equal(stdout, '{"valid":true}\n{"valid":false}\n');
});

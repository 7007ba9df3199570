import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import pg from "pg";

import { ActionsError, Client, newEventId } from "../src/index.js";
import { ReplyTo } from "../src/reply-to.js";

const URL_ = process.env["DATABASE_URL"] as string;
const plan = (name: string, more: object = {}) => ({ user: { id: "user_1" }, metadata: { plan: name, ...more } });
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

async function withClient<T>(body: (client: Client) => Promise<T>, options = {}): Promise<T> {
  const client = await Client.connect({ url: URL_, ...options });
  try {
    return await body(client);
  } finally {
    await client.close();
  }
}

/** Leads to the database; may lose the answers to what was asked, or go dead without a word. */
class Line {
  readonly asked: string[] = [];
  loses = 0;
  isDead = false;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#lead(client));

  async open(): Promise<string> {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    const url = new URL(URL_);
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #lead(client: Socket): void {
    const { hostname, port } = new URL(URL_);
    const database = connect(Number(port), hostname);
    let isLosing = false;
    const end = () => [client, database].forEach((socket) => socket.destroy());
    for (const socket of [client, database]) this.#sockets.add(socket.on("error", end).on("close", end));
    client.on("data", (data) => {
      const named = [...data.toString("latin1").matchAll(/actions\.(enqueue_\w+)/g)].map(([, name]) => name as string);
      this.asked.push(...named);
      if (named.length > 0 && this.loses > 0) [this.loses, isLosing] = [this.loses - 1, true];
      if (!this.isDead) database.write(data);
    });
    database.on("data", (data) => {
      if (isLosing) end();
      else if (!this.isDead) client.write(data);
    });
  }
}

async function query(sql: string, values: unknown[] = []): Promise<number> {
  const connection = new pg.Client(URL_);
  await connection.connect();
  const { rowCount } = await connection.query(sql, values);
  await connection.end();
  return rowCount ?? 0;
}

test("an event has the outcome of its action", () =>
  withClient(async (client) => {
    const allowed = await client.invoke("acme", "pre_token_mint", plan("allow", { n: 7 }));
    assert.deepEqual([allowed.outcome.decision, allowed.outcome.status, allowed.outcome.claims], ["allow", "ok", { n: 7 }]);
    assert.match(allowed.invocationId ?? "", /^inv_/);
    const denied = await client.invoke("acme", "pre_authenticate", plan("deny"));
    assert.deepEqual([denied.outcome.decision, denied.outcome.code, denied.outcome.reason], ["deny", "planned", "by the event"]);
    const nobody = await client.invoke("acme", "pre_register", plan("allow"));
    assert.deepEqual([nobody.invocationId, nobody.outcome.source], [null, "no_action"]);
  }));

test("a result too large for a notification is read", () =>
  withClient(async (client) => {
    const { outcome } = await client.invoke("acme", "pre_token_mint", plan("large"));
    assert.equal((outcome.claims?.["text"] as string).length, 9_000);
  }));

test("an endpoint that hangs ends by fail mode in time", () =>
  withClient(async (client) => {
    const began = Date.now();
    const answers = await Promise.all(["post_register", "pre_authenticate"].map((trigger) => client.invoke("acme", trigger, plan("hang"))));
    assert.deepEqual(answers.map(({ outcome }) => outcome.source), ["fail_open", "fail_closed"]);
    assert.ok(Date.now() - began < 3_000);
  }));

test("many at once share a few connections", () =>
  withClient(
    async (client) => {
      const answers = await Promise.all(numbers(200).map((n) => client.invoke("acme", "pre_token_mint", plan("allow", { n }))));
      assert.deepEqual(answers.map(({ outcome }) => outcome.claims?.["n"]), numbers(200));
    },
    { connections: 2 },
  ));

test("an event reported twice is one invocation", () =>
  withClient((one) =>
    withClient(async (other) => {
      const eventId = newEventId();
      const first = await one.invoke("acme", "pre_token_mint", plan("allow"), { eventId });
      const again = await other.invoke("acme", "pre_token_mint", plan("allow"), { eventId });
      assert.deepEqual([first.invocationId, first.eventId], [again.invocationId, eventId]);
    }),
  ));

test("lost connections are opened anew", () =>
  withClient(async (client) => {
    await client.invoke("acme", "pre_token_mint", plan("allow"));
    for (const name of ["auth-core actions client", "auth-core actions listener"]) {
      const ended = await query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [name]);
      assert.ok(ended > 0, name);
      const answers = await Promise.all(numbers(20).map((n) => client.invoke("acme", "pre_token_mint", plan("allow", { n }))));
      assert.deepEqual(new Set(answers.map(({ outcome }) => outcome.status)), new Set(["ok"]));
    }
  }));

test("an outcome of somebody else's is not believed", () =>
  withClient(async (client) => {
    const eventId = newEventId();
    const waiting = client.invoke("acme", "pre_authenticate", plan("hang"), { eventId });
    // Whoever may look into the database sees the channel, and nobody the token.
    const seen = new pg.Client(URL_);
    await seen.connect();
    const channel = async () => {
      const { rows } = await seen.query("select substring(query from 'actions_reply_[0-9a-f]{32}') as channel from pg_stat_activity where application_name = 'auth-core actions listener'");
      return (rows[0] as { channel: string | null } | undefined)?.channel;
    };
    const found = await channel();
    assert.ok(found);
    for (let turn = 0; turn < 20; turn += 1) {
      const { rows } = await seen.query("select invocation_id from actions.enqueue('acme', 'pre_authenticate', $2, null, $1)", [eventId, plan("hang")]);
      const { invocation_id: id } = rows[0] as { invocation_id: string };
      const outcome = { decision: "allow", source: "verdict", status: "ok" };
      for (const more of [{}, { token: "x".repeat(32) }]) {
        await seen.query("select pg_notify($1, $2)", [found, JSON.stringify([{ id, status: "ok", outcome, ...more }])]);
      }
      await sleep(10);
    }
    await seen.end();
    assert.equal((await waiting).outcome.source, "fail_closed");
  }));

test("numbers stay as they were written", () =>
  withClient(async (client) => {
    for (const n of ["9007199254740993", "1.10", "1e400"]) {
      const { json } = await client.invoke("acme", "pre_token_mint", plan("number", { text: n }));
      assert.ok(json.includes(`"n":${n}`) || json.includes(`"n": ${n}`), json);
    }
  }));

test("whoever waits when it is closed gets an error, and a closed client stays closed", async () => {
  const client = await Client.connect(URL_);
  const waiting = client.invoke("acme", "pre_authenticate", plan("hang"));
  await sleep(200);
  const [ended] = await Promise.allSettled([waiting, client.close()]);
  assert.equal(ended?.status, "rejected");
  await assert.rejects(client.invoke("acme", "pre_token_mint", {}), /closed/);
});

test("closed while it connects again, it leaves no connection behind", async () => {
  const client = await Client.connect(URL_);
  await query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'auth-core actions listener'");
  await sleep(20);
  await client.close();
  await sleep(500);
  assert.equal(await query("select from pg_stat_activity where application_name like 'auth-core actions %'"), 0);
});

test("what is wrong is an error that says so, and costs no other", () =>
  withClient(async (client) => {
    const circle: Record<string, unknown> = {};
    circle["circle"] = circle;
    const wrong: [string, object][] = [
      ["pre_login", {}],
      ["pre_token_mint", { trigger: "mine" }],
      ["pre_token_mint", circle],
    ];
    const good: [string, object][] = numbers(5).map((n) => ["pre_token_mint", plan("allow", { n })]);
    const ended = await Promise.allSettled([...good, ...wrong].map(([trigger, event]) => client.invoke("acme", trigger, event)));
    assert.ok(ended.slice(0, 5).every((one) => one.status === "fulfilled" && one.value.outcome.status === "ok"));
    ["pre_login", "trigger", "JSON"].forEach((word, n) => {
      const one = ended[5 + n] as PromiseRejectedResult;
      assert.ok(one.reason instanceof ActionsError && one.reason.blamesEvent, word);
      assert.match(one.reason.message, new RegExp(word));
    });
    await assert.rejects(Client.connect("postgresql://nobody@127.0.0.1:1/none"), /not reachable/);
  }));

test("ids are as the fleet makes them", () => {
  const ids = numbers(100).map(() => newEventId());
  assert.ok(ids.every((id) => /^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(id)));
  assert.equal(new Set(ids).size, 100);
});

test("an answer that got lost is asked for again, and nothing is sent twice", async () => {
  const line = new Line();
  const url = await line.open();
  const eventId = newEventId();
  try {
    await withClient(
      async (client) => {
        line.loses = 1;
        const answer = await client.invoke("acme", "pre_token_mint", plan("allow"), { eventId });
        const again = await withClient((other) => other.invoke("acme", "pre_token_mint", plan("allow"), { eventId }));
        assert.deepEqual([answer.outcome.status, answer.invocationId], ["ok", again.invocationId]);
        assert.deepEqual(line.asked, ["enqueue_many", "enqueue_again"]);
      },
      { url, listenUrl: URL_ },
    );
  } finally {
    line.close();
  }
});

test("a line that goes dead is an error in time", async () => {
  const line = new Line();
  const url = await line.open();
  try {
    await withClient(
      async (client) => {
        await client.invoke("acme", "pre_token_mint", plan("allow"));
        line.isDead = true;
        const began = Date.now();
        await assert.rejects(client.invoke("acme", "pre_token_mint", plan("allow")), /does not answer/);
        assert.ok(Date.now() - began < 10_000);
        line.isDead = false;
        const { outcome } = await client.invoke("acme", "pre_token_mint", plan("allow"));
        assert.equal(outcome.status, "ok");
      },
      { url, listenUrl: URL_ },
    );
  } finally {
    line.close();
  }
});

test("a trace goes through, and one that is none is passed over", () =>
  withClient(async (client) => {
    const traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (const [given, got] of [[traceParent, traceParent], ["odd", ""], ["\0", ""], ["\ud800", ""]] as const) {
      const { outcome } = await client.invoke("acme", "pre_token_mint", plan("trace"), { traceParent: given });
      assert.deepEqual(outcome.claims, { trace: got });
    }
  }));

test("no payload breaks the listener", () => {
  const replyTo = new ReplyTo();
  const id = "inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B";
  for (const payload of ["", "{", "7", "[7]", "[null]", "[{}]", '[{"id":7}]', '[{"id":"inv_1"}]', "[".repeat(5_000)]) {
    assert.deepEqual(replyTo.read(payload), [], payload.slice(0, 50));
  }
  for (let n = 0; n < 100; n += 1) {
    const lucky = new ReplyTo();
    const outcome = { decision: "deny", reason: '"1e5 \\" 0.5', code: "7".repeat(16) };
    const told = { outcome, json: JSON.stringify(outcome) };
    assert.deepEqual(lucky.read(JSON.stringify([{ id, token: lucky.token, outcome }])), [{ id, told }], lucky.token);
  }
  const ours = { id, token: replyTo.token, outcome: { decision: "deny" } };
  for (const more of [{ token: "é" }, { token: "\ud800" }, { token: 7 }, { outcome: 7 }, { outcome: { n: 0.1 } }]) {
    assert.deepEqual(replyTo.read(JSON.stringify([{ ...ours, ...more }])), [{ id, told: null }], JSON.stringify(more));
  }
});

test("the driver reports line by line", async () => {
  const driver = spawn(process.execPath, [fileURLToPath(new URL("../src/driver.js", import.meta.url))], { stdio: ["pipe", "pipe", "inherit"] });
  for (const line of [
    { n: 1, project_id: "acme", trigger: "pre_authenticate", event: plan("hang") },
    { n: 2, project_id: "acme", trigger: "pre_token_mint", event: plan("allow", { n: 2 }) },
    { n: 3, project_id: "acme", trigger: "pre_login", event: {} },
  ]) {
    driver.stdin.write(`${JSON.stringify(line)}\n`);
  }
  driver.stdin.end();
  let said = "";
  for await (const piece of driver.stdout) said += String(piece);
  const lines = said.trim().split("\n").map((line) => JSON.parse(line) as { n: number; status: string });
  assert.deepEqual(Object.fromEntries(lines.map(({ n, status }) => [n, status])), { 1: "timeout", 2: "ok", 3: "error" });
  assert.equal(lines.at(-1)?.n, 1, "each is told as it ends");
});

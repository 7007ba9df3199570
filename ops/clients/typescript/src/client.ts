import { setTimeout as sleep } from "node:timers/promises";

import pg from "pg";

import { newEventId } from "./ids.js";
import { ActionsError, type Answer, type Outcome } from "./outcome.js";
import { ReplyTo } from "./reply-to.js";

const ENQUEUE_MANY = "select invocation_id, event_id, action_id, outcome, wait_ms from actions.enqueue_many($1::text::json, $2)";
const RESULTS = "select invocation_id, outcome from actions.results($1)";
const ABANDON = "select outcome from actions.abandon($1)";

/** For so long an event is reported again while the database is away. */
const PATIENCE_MS = 5_000;
/** Beyond an invocation's deadline, the database may take so long to say its outcome. */
const GRACE_MS = 2_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** While the listening connection is lost, outcomes are asked for so often. */
const DEAF_MS = 500;
/** The most events of one statement. */
const BATCH = 128;
/** Results that came before their invocation was known: so many are kept. */
const EARLY = 10_000;

export interface Options {
  /** URL of a login with the role `actions_core`; may go through a pooler. */
  url: string;
  /** A direct connection for LISTEN, where `url` goes through a pooler. */
  listenUrl?: string;
  /** Connections beside the one that listens; 4 unless told otherwise. */
  connections?: number;
}

interface Row {
  invocation_id: string | null;
  event_id: string;
  action_id: string | null;
  outcome: Outcome | null;
  wait_ms: number;
}

interface Ask {
  request: Record<string, unknown>;
  resolve: (row: Row) => void;
  reject: (error: ActionsError) => void;
}

interface Waiter {
  resolve: (outcome: Outcome) => void;
  result: Promise<Outcome>;
}

/** Asks the fleet about auth events; one for a process, shared by everything in it. */
export class Client {
  readonly #pool: pg.Pool;
  readonly #listenUrl: string;
  readonly #replyTo = new ReplyTo();
  readonly #waiting = new Map<string, Waiter>();
  readonly #early = new Map<string, Outcome>();
  readonly #asked: Ask[] = [];
  readonly #closing = new AbortController();
  #reporting = 0;
  #isGathering = false;
  #hears = false;
  #listener: pg.Client | undefined;

  private constructor(options: Options) {
    this.#listenUrl = options.listenUrl ?? options.url;
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: options.connections ?? 4,
      connectionTimeoutMillis: PATIENCE_MS,
      query_timeout: PATIENCE_MS,
      keepAlive: true,
      application_name: "auth-core actions client",
    });
    // An idle connection that breaks is no error of anybody: the pool opens another.
    this.#pool.on("error", () => {});
  }

  /** Connects and listens. */
  static async connect(options: Options | string): Promise<Client> {
    const client = new Client(typeof options === "string" ? { url: options } : options);
    try {
      await client.#listen();
    } catch (error) {
      await client.close();
      throw new ActionsError(`the database is not reachable: ${text(error)}`, false, { cause: error });
    }
    return client;
  }

  /** Stops listening and closes the connections. */
  async close(): Promise<void> {
    this.#closing.abort();
    const listener = this.#listener;
    this.#listener = undefined;
    await Promise.allSettled([listener?.end(), this.#pool.end()]);
  }

  /**
   * Reports an auth event and returns its one final outcome: the action's, or at the deadline its fail mode's.
   *
   * An `eventId` of your own (see `newEventId`) makes it safe to report the event again within ten minutes, by any
   * process. Throws `ActionsError` where the database refuses or does not answer.
   */
  async invoke(projectId: string, trigger: string, event: object, eventId: string = newEventId()): Promise<Answer> {
    this.#reporting += 1;
    let row: Row;
    let waiter: Waiter | undefined;
    try {
      row = await new Promise<Row>((resolve, reject) => {
        this.#asked.push({ request: { project_id: projectId, trigger, event, event_id: eventId }, resolve, reject });
        void this.#gather();
      });
      if (row.invocation_id !== null && row.outcome === null) waiter = this.#waiter(row.invocation_id);
    } finally {
      this.#reporting -= 1;
      if (this.#reporting === 0) this.#early.clear();
    }
    const { invocation_id: invocationId, event_id, action_id: actionId } = row;
    if (waiter === undefined || invocationId === null) {
      return { eventId: event_id, invocationId, actionId, outcome: row.outcome as Outcome };
    }
    try {
      return { eventId: event_id, invocationId, actionId, outcome: await this.#wait(invocationId, waiter.result, row.wait_ms) };
    } finally {
      this.#waiting.delete(invocationId);
    }
  }

  #waiter(id: string): Waiter {
    const known = this.#waiting.get(id);
    if (known) return known;
    let resolve: (outcome: Outcome) => void = () => {};
    const result = new Promise<Outcome>((resolved) => (resolve = resolved));
    const waiter = { resolve, result };
    this.#waiting.set(id, waiter);
    const early = this.#early.get(id);
    if (early) resolve(early);
    return waiter;
  }

  /** One statement at a time; the next takes all that came meanwhile. */
  async #gather(): Promise<void> {
    if (this.#isGathering) return;
    this.#isGathering = true;
    while (this.#asked.length > 0) {
      const batch = this.#asked.splice(0, BATCH);
      try {
        await this.#report(batch);
      } catch (error) {
        const failed = error as ActionsError;
        // One wrong event refuses the statement, and must not cost the others.
        for (const ask of batch) {
          if (batch.length === 1 || !failed.blamesEvent) ask.reject(failed);
          else await this.#report([ask]).catch((own: ActionsError) => ask.reject(own));
        }
      }
    }
    this.#isGathering = false;
  }

  /** The same event ids again are the same invocations, so an answer that got lost is asked for again. */
  async #report(batch: Ask[]): Promise<void> {
    let requests: string;
    try {
      requests = JSON.stringify(batch.map((ask) => ask.request));
    } catch (error) {
      throw new ActionsError(`the event is no JSON: ${text(error)}`, true, { cause: error });
    }
    const { rows } = await this.#patiently<Row>(ENQUEUE_MANY, [requests, this.#replyTo.text], Date.now() + PATIENCE_MS);
    if (rows.length !== batch.length) throw new ActionsError("enqueue answered with too few rows");
    batch.forEach((ask, n) => ask.resolve(rows[n] as Row));
  }

  async #wait(id: string, result: Promise<Outcome>, waitMs: number): Promise<Outcome> {
    const deadline = Date.now() + waitMs;
    for (let left = waitMs; left > 0; left = deadline - Date.now()) {
      const heard = await Promise.race([result, later(Math.min(left, DEAF_MS))]);
      if (heard) return heard;
      if (!this.#hears) await this.#read([id]);
    }
    const { rows } = await this.#patiently<{ outcome: Outcome }>(ABANDON, [id], Date.now() + GRACE_MS);
    const outcome = rows[0]?.outcome;
    if (!outcome) throw new ActionsError(`there is no final outcome of ${id}`);
    return outcome;
  }

  /** Runs a statement again until `last` while the database is away; what is wrong is an error at once. */
  async #patiently<T extends pg.QueryResultRow>(sql: string, values: unknown[], last: number): Promise<pg.QueryResult<T>> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await this.#pool.query<T>(sql, values);
      } catch (error) {
        if (!isPassing(error)) throw new ActionsError(`the database refused: ${text(error)}`, true, { cause: error });
        if (Date.now() + pause > last) throw new ActionsError(`the database does not answer: ${text(error)}`, false, { cause: error });
        await sleep(pause);
      }
    }
  }

  async #listen(): Promise<void> {
    const listener = new pg.Client({
      connectionString: this.#listenUrl,
      connectionTimeoutMillis: PATIENCE_MS,
      keepAlive: true,
      application_name: "auth-core actions listener",
    });
    let isLost = false;
    const lost = () => {
      if (isLost) return;
      isLost = true;
      this.#hears = false;
      void listener.end().catch(() => {});
      if (listener === this.#listener && !this.#closing.signal.aborted) void this.#listenAgain();
    };
    listener.on("error", lost).on("end", lost);
    listener.on("notification", ({ payload }) => void this.#hear(payload ?? ""));
    await listener.connect();
    await listener.query(`listen ${pg.escapeIdentifier(this.#replyTo.channel)}`);
    this.#listener = listener;
    this.#hears = true;
    // What came meanwhile was told to nobody.
    await this.#read([...this.#waiting.keys()]);
    if (isLost) void this.#listenAgain();
  }

  async #listenAgain(): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; !this.#closing.signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await this.#listen();
      } catch {
        await sleep(pause, undefined, { ref: false });
      }
    }
  }

  async #hear(payload: string): Promise<void> {
    const unread: string[] = [];
    for (const { id, outcome } of this.#replyTo.read(payload)) {
      if (outcome) this.#tell(id, outcome);
      else if (this.#waiting.has(id) || this.#reporting > 0) unread.push(id);
    }
    await this.#read(unread);
  }

  #tell(id: string, outcome: Outcome): void {
    const waiter = this.#waiting.get(id);
    if (waiter) waiter.resolve(outcome);
    // Its enqueue is still on the way back.
    else if (this.#reporting > 0 && this.#early.size < EARLY) this.#early.set(id, outcome);
  }

  /** What cannot be read now is read at the deadline. */
  async #read(ids: string[]): Promise<void> {
    if (ids.length === 0) return;
    try {
      const { rows } = await this.#pool.query<{ invocation_id: string; outcome: Outcome | null }>(RESULTS, [ids]);
      for (const { invocation_id, outcome } of rows) if (outcome) this.#tell(invocation_id, outcome);
    } catch {
      // Nobody is told, and everybody asks again.
    }
  }
}

/** Classes of errors that say that the request, the login or the schema is at fault. */
const FAULTS = ["22", "23", "28", "3D", "3F", "42", "54"];

function isPassing(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return !(typeof code === "string" && code.length === 5 && FAULTS.some((fault) => code.startsWith(fault)));
}

function text(error: unknown): string {
  const { message, detail } = error as { message?: string; detail?: string };
  return [message || String(error), detail].filter(Boolean).join("; ");
}

async function later(ms: number): Promise<null> {
  await sleep(ms);
  return null;
}

import { setTimeout as sleep } from "node:timers/promises";

import pg from "pg";

import { newEventId } from "./ids.js";
import { ActionsError, type Answer, type Outcome } from "./outcome.js";
import { ReplyTo, type Told } from "./reply-to.js";

const COLUMNS = "invocation_id, event_id, action_id, outcome::text as outcome, wait_ms";
const EPOCH = "select actions.server_epoch() as epoch";
const ENQUEUE_MANY = `select ${COLUMNS} from actions.enqueue_many($1::text::json, $2)`;
const ENQUEUE_AGAIN = `select ${COLUMNS} from actions.enqueue_again($1::text[], $2::text[], $3::text[]::json[], $4::text[], $5, null, $6, $7::text[])`;
const RESULTS = "select invocation_id, outcome::text as outcome from actions.results($1)";
const ABANDON = "select outcome::text as outcome from actions.abandon($1)";

/** For so long an event is reported again while the database is away. */
const PATIENCE_MS = 5_000;
/** How long one answer may take. */
const ANSWER_MS = 3_000;
/** Beyond an invocation's deadline, the database may take so long to say its outcome. */
const GRACE_MS = 2_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** So often outcomes are asked for that nothing was heard of: a notification may be lost, and a line may be dead. */
const LOOK_MS = 250;
/** The most events of one statement. */
const BATCH = 128;
/** Results that came before their invocation was known: so many are kept. */
const EARLY = 10_000;
/** A line that went dead is noticed sooner than the system would by itself. */
const KEEPALIVE = { keepAlive: true, keepAliveInitialDelayMillis: 5_000 };

/** The form of a W3C traceparent; what has another is passed over, here as in the database. */
const TRACE_PARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?$/;

export interface Options {
  /** URL of a login with the role `actions_core`; may go through a pooler. */
  url: string;
  /** A direct connection for LISTEN, where `url` goes through a pooler. */
  listenUrl?: string;
  /** Connections beside the one that listens; 4 unless told otherwise. */
  connections?: number;
}

/** What auth-core may know of an event beside the event itself. */
export interface Details {
  /** One of your own (see `newEventId`) makes it safe to report the event again within ten minutes, by any process. */
  eventId?: string;
  /** W3C `traceparent`: joins the fleet's spans and the endpoint's to your trace. One that is not valid is passed over. */
  traceParent?: string;
}

interface Row {
  invocation_id: string | null;
  event_id: string;
  action_id: string | null;
  outcome: string | null;
  wait_ms: number;
}

interface Ask {
  request: { project_id: string; trigger: string; event: object; event_id: string; trace_parent: string | undefined };
  resolve: (row: Row) => void;
  reject: (error: ActionsError) => void;
}

/** Who waits for an invocation: several, where one event was reported twice here. */
interface Waiter {
  count: number;
  isOld: boolean;
  resolve: (told: Told) => void;
  reject: (error: ActionsError) => void;
  result: Promise<Told>;
}

/** The database is away, or did not answer. */
class Away extends Error {
  constructor(
    cause: unknown,
    /** The statement had been sent. */
    readonly mayBeDone: boolean,
  ) {
    super(text(cause), { cause });
  }
}

/** Asks the fleet about auth events; one for a process, shared by everything in it. */
export class Client {
  readonly #pool: pg.Pool;
  readonly #listenUrl: string;
  readonly #replyTo = new ReplyTo();
  readonly #waiting = new Map<string, Waiter>();
  readonly #early = new Map<string, Told>();
  readonly #asked: Ask[] = [];
  readonly #looking: NodeJS.Timeout;
  #reporting = 0;
  #isGathering = false;
  #isLooking = false;
  #isClosed = false;
  #listener: pg.Client | undefined;
  /** The server's epoch, learnt before anything was sent in it. */
  #epoch: string | undefined;

  private constructor(options: Options) {
    this.#listenUrl = options.listenUrl ?? options.url;
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: options.connections ?? 4,
      connectionTimeoutMillis: ANSWER_MS,
      application_name: "auth-core actions client",
      ...KEEPALIVE,
    });
    // An idle connection that breaks is no error of anybody: the pool opens another.
    this.#pool.on("error", () => {});
    this.#looking = setInterval(() => void this.#look(), LOOK_MS).unref();
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

  /** Stops listening and closes the connections. Whoever still waits gets an error. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#looking);
    const closed = new ActionsError("the client was closed");
    for (const ask of this.#asked.splice(0)) ask.reject(closed);
    for (const waiter of this.#waiting.values()) waiter.reject(closed);
    await Promise.allSettled([this.#listener?.end(), this.#pool.end()]);
  }

  /**
   * Reports an auth event and returns its one final outcome: the action's, or at the deadline its fail mode's.
   *
   * Throws `ActionsError` where the database refuses or does not answer.
   */
  async invoke(projectId: string, trigger: string, event: object, details: Details = {}): Promise<Answer> {
    if (this.#isClosed) throw new ActionsError("the client was closed");
    this.#reporting += 1;
    let row: Row;
    let waiter: Waiter | undefined;
    try {
      row = await new Promise<Row>((resolve, reject) => {
        const { eventId = newEventId() } = details;
        const traceParent = TRACE_PARENT.test(details.traceParent ?? "") ? details.traceParent : undefined;
        this.#asked.push({ request: { project_id: projectId, trigger, event, event_id: eventId, trace_parent: traceParent }, resolve, reject });
        void this.#gather();
      });
      if (row.invocation_id !== null && row.outcome === null) waiter = this.#waiter(row.invocation_id);
    } finally {
      this.#reporting -= 1;
      if (this.#reporting === 0) this.#early.clear();
    }
    const { invocation_id: invocationId, event_id, action_id: actionId } = row;
    if (waiter === undefined || invocationId === null) {
      return { eventId: event_id, invocationId, actionId, ...told(row.outcome ?? "") };
    }
    try {
      return { eventId: event_id, invocationId, actionId, ...(await this.#wait(invocationId, waiter.result, row.wait_ms)) };
    } finally {
      waiter.count -= 1;
      if (waiter.count === 0) this.#waiting.delete(invocationId);
    }
  }

  #waiter(id: string): Waiter {
    const known = this.#waiting.get(id);
    if (known) {
      known.count += 1;
      return known;
    }
    let [resolve, reject]: [Waiter["resolve"], Waiter["reject"]] = [() => {}, () => {}];
    const result = new Promise<Told>((resolved, rejected) => ([resolve, reject] = [resolved, rejected]));
    // Somebody awaits it in a moment.
    result.catch(() => {});
    const waiter = { count: 1, isOld: false, resolve, reject, result };
    this.#waiting.set(id, waiter);
    const early = this.#early.get(id);
    if (early) resolve(early);
    this.#early.delete(id);
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
        const failed = asActionsError(error);
        // One wrong event refuses the statement, and must not cost the others.
        for (const ask of batch) {
          if (batch.length === 1 || !failed.blamesEvent) ask.reject(failed);
          else await this.#report([ask]).catch((own: unknown) => ask.reject(asActionsError(own)));
        }
      }
    }
    this.#isGathering = false;
  }

  async #report(batch: Ask[]): Promise<void> {
    const requests = batch.map((ask) => ask.request);
    let events: string[];
    let json: string;
    try {
      events = requests.map((request) => JSON.stringify(request.event));
      json = JSON.stringify(requests);
    } catch (error) {
      throw new ActionsError(`the event is no JSON: ${text(error)}`, true, { cause: error });
    }
    const [projects, triggers, ids] = [requests.map((r) => r.project_id), requests.map((r) => r.trigger), requests.map((r) => r.event_id)];
    const parents = requests.map((request) => request.trace_parent ?? null);
    // Where an answer got lost, the epoch in which it was asked for.
    let lost: string | undefined;
    const rows = await this.#patiently(Date.now() + PATIENCE_MS, async () => {
      if (lost !== undefined) {
        // The same event ids again are the same invocations; what a crash may have forgotten is refused.
        return this.#rows<Row>(ENQUEUE_AGAIN, [projects, triggers, events, ids, this.#replyTo.text, lost, parents], ANSWER_MS);
      }
      const epoch = (this.#epoch ??= (await this.#rows<{ epoch: string }>(EPOCH, [], ANSWER_MS))[0]?.epoch);
      try {
        return await this.#rows<Row>(ENQUEUE_MANY, [json, this.#replyTo.text], ANSWER_MS);
      } catch (error) {
        this.#epoch = undefined;
        if (error instanceof Away && error.mayBeDone) lost = epoch;
        throw error;
      }
    });
    if (rows.length !== batch.length) throw new ActionsError("enqueue answered with another number of rows");
    batch.forEach((ask, n) => ask.resolve(rows[n] as Row));
  }

  async #wait(id: string, result: Promise<Told>, waitMs: number): Promise<Told> {
    const stop = new AbortController();
    const late = sleep(waitMs, null, { signal: stop.signal }).catch(() => null);
    try {
      const heard = await Promise.race([result, late]);
      if (heard) return heard;
    } finally {
      stop.abort();
    }
    const last = Date.now() + GRACE_MS;
    const abandoned = this.#patiently(last, () => this.#rows<{ outcome: string | null }>(ABANDON, [id], Math.max(last - Date.now(), 100)));
    const ended = abandoned.then((rows) => told(rows[0]?.outcome ?? ""));
    // A result that comes after all is the same one.
    return Promise.any([ended, result]).catch((error: AggregateError) => Promise.reject(asActionsError(error.errors[0])));
  }

  /** Tries again until `last` while the database is away. */
  async #patiently<T>(last: number, attempt: () => Promise<T>): Promise<T> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof Away)) throw error;
        if (Date.now() + pause > last || this.#isClosed) {
          throw new ActionsError(`the database does not answer: ${error.message}`, false, { cause: error });
        }
        await sleep(pause);
      }
    }
  }

  /** Runs one statement. Throws `Away` where another try may have more luck, else `ActionsError`. */
  async #rows<T extends pg.QueryResultRow>(sql: string, values: unknown[], limitMs: number): Promise<T[]> {
    let connection: pg.PoolClient;
    try {
      connection = await this.#pool.connect();
    } catch (error) {
      throw failure(error, false);
    }
    // Whoever breaks in the middle says so twice: to the query, and to all who listen, of whom there must be one.
    connection.on("error", ignore);
    try {
      const query = { text: sql, values, query_timeout: limitMs } as pg.QueryConfig;
      const { rows } = await connection.query<T>(query);
      connection.release();
      return rows;
    } catch (error) {
      const failed = failure(error, true);
      // What broke, or did not answer, is not used again.
      connection.release(failed instanceof Away);
      throw failed;
    } finally {
      connection.off("error", ignore);
    }
  }

  async #listen(): Promise<void> {
    const listener = new pg.Client({
      connectionString: this.#listenUrl,
      connectionTimeoutMillis: PATIENCE_MS,
      application_name: "auth-core actions listener",
      ...KEEPALIVE,
    });
    let isLost = false;
    const lost = () => {
      if (isLost) return;
      isLost = true;
      if (listener === this.#listener) {
        this.#listener = undefined;
        void listener.end().catch(() => {});
        void this.#listenAgain();
      }
    };
    listener.on("error", lost).on("end", lost);
    listener.on("notification", ({ payload }) => this.#hear(payload ?? ""));
    try {
      await listener.connect();
      await listener.query(`listen ${pg.escapeIdentifier(this.#replyTo.channel)}`);
      if (isLost || this.#isClosed) throw new Error("the connection is not needed, or broke at once");
    } catch (error) {
      isLost = true;
      await listener.end().catch(() => {});
      throw error;
    }
    this.#listener = listener;
  }

  async #listenAgain(): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; !this.#isClosed; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await this.#listen();
      } catch {
        await sleep(pause, undefined, { ref: false });
      }
    }
  }

  #hear(payload: string): void {
    // One without an outcome is asked for with the next look.
    for (const { id, told } of this.#replyTo.read(payload)) if (told) this.#tell(id, told);
  }

  #tell(id: string, told: Told): void {
    const waiter = this.#waiting.get(id);
    if (waiter) return waiter.resolve(told);
    if (this.#reporting === 0) return;
    // Its enqueue is still on the way back. The oldest go first: who left will not come for them.
    const [oldest] = this.#early.keys();
    if (this.#early.size >= EARLY && oldest !== undefined) this.#early.delete(oldest);
    this.#early.set(id, told);
  }

  /** Asks for what was not heard of: a notification may be lost, too large, or somebody else's. */
  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const ids: string[] = [];
    for (const [id, waiter] of this.#waiting) {
      if (waiter.isOld) ids.push(id);
      waiter.isOld = true;
    }
    try {
      if (ids.length > 0) {
        for (const row of await this.#rows<{ invocation_id: string; outcome: string | null }>(RESULTS, [ids], ANSWER_MS)) {
          if (row.outcome !== null) this.#tell(row.invocation_id, told(row.outcome));
        }
      }
    } catch {
      // The next look may have more luck, and at the deadline everybody asks for himself.
    } finally {
      this.#isLooking = false;
    }
  }
}

function ignore(): void {}

/** Classes of errors that say that the request, the login or the schema is at fault. */
const FAULTS = ["22", "23", "28", "3D", "3F", "42", "54"];
/** The server crashed after something was asked, and knows nothing of it. */
const FORGOTTEN = "08007";

function failure(error: unknown, wasSent: boolean): Away | ActionsError {
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && code.length === 5) {
    if (code === FORGOTTEN) return new ActionsError(text(error), false, { cause: error });
    if (FAULTS.some((fault) => code.startsWith(fault))) return new ActionsError(`the database refused: ${text(error)}`, true, { cause: error });
    // Read only after a failover: nothing was done.
    if (code === "25006") return new Away(error, false);
  }
  return new Away(error, wasSent);
}

function asActionsError(error: unknown): ActionsError {
  return error instanceof ActionsError ? error : new ActionsError(`the event cannot be reported: ${text(error)}`, false, { cause: error });
}

function told(json: string): Told {
  try {
    return { outcome: JSON.parse(json) as Outcome, json };
  } catch (error) {
    throw new ActionsError(`the outcome cannot be read: ${text(error)}`, false, { cause: error });
  }
}

function text(error: unknown): string {
  const { message, detail } = error as { message?: string; detail?: string };
  return [message || String(error), detail].filter(Boolean).join("; ");
}

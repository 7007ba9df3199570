//! Chaos, seeded: many auth-cores ask while everything goes wrong, everybody writes down what he saw, and a
//! checker that knows only these histories judges afterwards.
//!
//! Started by `ops/chaos`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stdout, reason = "a harness stops at the first surprise")]

mod askers;
mod checker;
mod faults;
mod fleet;
mod history;
mod mutations;
mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::stack::Stack;
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use sqlx::{PgPool, Row as _};

use crate::askers::{Crowd, GATES};
use crate::faults::{Planned, schedule};
use crate::fleet::Fleet;
use crate::history::{Book, History, Row};
use crate::mutations::Mutation;
use crate::place::{Kind, Place};

/// Many auth-cores under a seeded schedule of faults, and a checker that judges what everybody saw.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 2)]
    seeds: u64,
    /// Invocations of a seed.
    #[arg(long, default_value_t = 3_000)]
    invocations: u64,
    /// Faults of a seed.
    #[arg(long, default_value_t = 12)]
    faults: usize,
    /// Plants a fault into the product; the checker must find it. "all" takes one after the other.
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// Where histories are written.
    #[arg(long, default_value = "target/chaos")]
    histories: PathBuf,
}

/// Askers of each kind.
const CLIENTS: u64 = 24;
const SQL: u64 = 24;
/// When all have asked, everything is final within this time.
const QUIET: Duration = Duration::from_secs(30);
/// After the last fault every action is served again within this time. `PgBouncer` waits for 15 s before it tries
/// a server again that was away.
const CALM: Duration = Duration::from_secs(25);

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    // Whoever is interrupted leaves no process behind: all of them go with what is dropped here.
    tokio::select! {
        status = all(arguments) => status,
        _ = tokio::signal::ctrl_c() => std::process::ExitCode::from(130),
        _ = terminated.recv() => std::process::ExitCode::from(143),
    }
}

async fn all(arguments: Arguments) -> std::process::ExitCode {
    let planted: Vec<Option<Mutation>> = match arguments.mutation.as_deref() {
        None => vec![None],
        Some("all") => mutations::ALL.into_iter().map(Some).collect(),
        Some(name) => {
            let Some(mutation) = Mutation::by_name(name) else {
                let known: Vec<&str> = mutations::ALL.iter().map(|mutation| mutation.name).collect();
                eprintln!("ops/chaos: --mutation is {name:?}; accepted: all, {}", known.join(", "));
                return std::process::ExitCode::from(2);
            };
            vec![Some(mutation)]
        }
    };
    let mut wrong = 0;
    for mutation in planted {
        let found = seeds(&arguments, mutation).await;
        match mutation {
            None if found > 0 => wrong += 1,
            Some(mutation) if found == 0 => {
                println!("{}: NOT FOUND within {} seeds", mutation.name, arguments.seeds);
                wrong += 1;
            }
            _ => {}
        }
    }
    std::process::ExitCode::from(u8::from(wrong > 0))
}

/// Runs the seeds; how many violations were found. With a planted fault the first is enough.
async fn seeds(arguments: &Arguments, mutation: Option<Mutation>) -> usize {
    let mut violations = 0;
    let mut calls = 0;
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let began = Instant::now();
        let plan = schedule(seed, arguments.faults, Duration::from_millis(2_000 + arguments.invocations));
        let history = run(seed, &plan, arguments.invocations, mutation).await;
        write(&arguments.histories, seed, &history);
        let broken = checker::check(&history);
        calls += history.asked.len();
        if let Some(mutation) = mutation {
            if let Some(first) = broken.first() {
                println!("{}: found after {calls} invocations (seed {seed}): {first}", mutation.name);
                return broken.len();
            }
            continue;
        }
        println!(
            "seed {seed} ({:?}{}): {} invocations, {} requests, {} rows, {} faults, calm after {} ms, {} violations, {:.1} s",
            Kind::of(seed),
            history.lacking.iter().map(|what| format!(", {what}")).collect::<String>(),
            history.asked.len(),
            history.received.len(),
            history.rows.len(),
            history.done.len(),
            history.calm_after_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string()),
            broken.len(),
            began.elapsed().as_secs_f64()
        );
        if !broken.is_empty() {
            broken.iter().take(10).for_each(|violation| println!("  {violation}"));
            shrink(seed, &plan, arguments, broken.len()).await;
        }
        violations += broken.len();
    }
    violations
}

/// Leaves out faults for as long as something is broken without them: halves first, single ones at last.
async fn shrink(seed: u64, plan: &[Planned], arguments: &Arguments, broken: usize) {
    let mut smallest = plan.to_vec();
    println!("  shrinking a schedule of {} faults that broke {broken} promises", smallest.len());
    let mut size = smallest.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < smallest.len() && smallest.len() > size {
            let mut without = smallest.clone();
            without.drain(at..smallest.len().min(at + size));
            let history = run(seed, &without, arguments.invocations, None).await;
            if checker::check(&history).is_empty() { at += size } else { smallest = without }
        }
        size /= 2;
    }
    println!("  it takes:");
    smallest.iter().for_each(|planned| println!("  {planned}"));
}

fn write(dir: &Path, seed: u64, history: &History) {
    std::fs::create_dir_all(dir).expect("a directory");
    let file = dir.join(format!("seed-{seed}.json"));
    std::fs::write(file, serde_json::to_vec(history).expect("JSON")).expect("a file");
}

async fn run(seed: u64, plan: &[Planned], invocations: u64, mutation: Option<Mutation>) -> History {
    let programs = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)).expect("the binaries");
    let book = Book::new();
    let (mut place, database) = Place::prepare(Kind::of(seed), &programs).await;
    book.write(|history| history.lacking = place.lacks(Kind::of(seed)));
    let seen = book.clone();
    let stack = Stack::on(database, &programs, move |request| answer(seen.clone(), request)).await;
    let owner = stack.database.owner().await;
    let actions = set_up(&stack).await;
    if let Some(mutation) = mutation {
        mutation.plant(&owner).await;
    }
    let pause = lasts(plan).mul_f64((CLIENTS + SQL) as f64 / invocations as f64);
    let crowd = Arc::new(Crowd { book: book.clone(), next: AtomicU64::new(0), last: invocations, pause });
    let mut fleet = Fleet::start(&mut place, &stack, actions, book.clone()).await;
    let asking = ask(&stack, fleet.place, &crowd, seed).await;
    let mut dice = SmallRng::seed_from_u64(seed ^ 0xFA17);
    let started = tokio::time::Instant::now();
    for planned in plan {
        tokio::time::sleep_until(started + planned.at).await;
        fleet.suffer(planned.fault, &mut dice).await;
    }
    let calm_after = calm(&fleet, &stack).await;
    for asker in asking {
        asker.await.expect("an asker");
    }
    settle(&owner, &book).await;
    book.write(|history| history.calm_after_ms = calm_after);
    book.read()
}

/// About how long a schedule takes: most faults take their time.
fn lasts(plan: &[Planned]) -> Duration {
    plan.iter().map(|planned| planned.at).max().unwrap_or_default()
        + Duration::from_millis(300) * u32::try_from(plan.len()).unwrap_or_default()
}

/// How long it takes until an event of every action is answered by its endpoint; nothing if it never is.
async fn calm(fleet: &Fleet<'_>, stack: &Stack) -> Option<u64> {
    let began = Instant::now();
    while began.elapsed() < CALM {
        fleet.calm_down().await;
        let mut served = true;
        for gate in GATES.iter().filter(|gate| !gate.is_fleeting) {
            let sql = "select invocation_id, wait_ms from actions.enqueue($1, $2, '{\"n\": 0.5}')";
            let Ok(row) = sqlx::query(sql).bind(gate.project).bind(gate.trigger).fetch_one(&stack.core).await else {
                served = false;
                continue;
            };
            let (id, wait_ms): (Option<String>, i32) = (row.get(0), row.get(1));
            let deadline = Instant::now() + Duration::from_millis(wait_ms.unsigned_abs().into());
            let status = loop {
                let look = sqlx::query_scalar("select status from actions.result($1)").bind(&id).fetch_one(&stack.core).await;
                let status: String = look.unwrap_or_default();
                if !["queued", "running", ""].contains(&status.as_str()) || Instant::now() > deadline {
                    break status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            served &= status == "ok";
        }
        if served {
            return u64::try_from(began.elapsed().as_millis()).ok();
        }
    }
    None
}

async fn set_up(stack: &Stack) -> Vec<String> {
    let mut actions = Vec::new();
    for gate in GATES {
        stack.project(gate.project).await;
        let modes = if gate.is_closed { "fail_mode => 'closed', on_killed => 'deny'" } else { "fail_mode => 'open'" };
        // The plans of events are too often failures for any kill-switch but one that waits for thousands.
        let condition = if gate.project == "odd" { ", condition => '$.n >= 0'" } else { "" };
        let settings = format!("timeout_ms => 600, {modes}{condition}");
        let spare = format!("{settings}, enabled => false");
        for settings in [settings, spare] {
            let action = stack.action(gate.project, gate.trigger, &stack.endpoint.url("/"), &settings).await;
            if !gate.is_fleeting {
                actions.push(action);
            }
        }
    }
    actions
}

async fn ask(stack: &Stack, place: &Place, crowd: &Arc<Crowd>, seed: u64) -> Vec<tokio::task::JoinHandle<()>> {
    let mut asking = Vec::new();
    let clients = [askers::client(place.of_client(&stack.database)).await, askers::client(place.of_client(&stack.database)).await];
    for n in 0..CLIENTS {
        let client = clients[usize::try_from(n).unwrap_or_default() % clients.len()].clone();
        asking.push(tokio::spawn(askers::with_client(Arc::clone(crowd), client, seed.wrapping_mul(1_000) + n)));
    }
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(60).connect(&stack.database.url("core")).await.expect("connections");
    for n in 0..SQL {
        asking.push(tokio::spawn(askers::with_sql(Arc::clone(crowd), pool.clone(), seed.wrapping_mul(1_000) + 500 + n)));
    }
    asking
}

/// The endpoint writes down what came, and does as the event says.
async fn answer(book: Book, request: Received) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    // A test event, or a probe, is of no plan.
    let Some(n) = body["n"].as_u64() else { return Reply::json("{}") };
    let received = history::Received {
        n,
        event_id: body["event_id"].as_str().unwrap_or_default().to_owned(),
        mode: request.header("authio-mode").to_owned(),
        at_ms: book.now_ms(),
    };
    book.write(|history| history.received.push(received));
    match body["plan"].as_str().unwrap_or_default() {
        "deny" => Reply::json(r#"{"decision":"deny","deny_code":"planned"}"#),
        "fail" => Reply::with_status(503, ""),
        "hang" => {
            // Long after everybody gave up: a worker that was paused may find an answer that came a little late.
            tokio::time::sleep(Duration::from_secs(20)).await;
            Reply::json(r#"{"decision":"allow"}"#)
        }
        _ => Reply::json(r#"{"decision":"allow","override_claims":{"n":1}}"#),
    }
}

/// Waits until nothing is left to be decided, and reads the rows.
async fn settle(owner: &PgPool, book: &Book) {
    let began = Instant::now();
    let left = loop {
        let left: i64 = match sqlx::query_scalar("select count(*) from actions_private.queue").fetch_one(owner).await {
            Ok(left) => left,
            Err(_) if began.elapsed() < QUIET => 1,
            Err(error) => panic!("the database is not back: {error}"),
        };
        if left == 0 || began.elapsed() > QUIET {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let rows =
        sqlx::query("select invocation_id, event_id, status, outcome::text from actions.recent_invocations where finished_at is not null")
            .fetch_all(owner)
            .await
            .expect("the history");
    let rows: Vec<Row> = rows
        .iter()
        .map(|row| Row {
            invocation_id: row.get(0),
            event_id: row.get(1),
            status: row.get(2),
            outcome: row.get::<Option<String>, _>(3).and_then(|outcome| serde_json::from_str(&outcome).ok()).unwrap_or(Value::Null),
        })
        .collect();
    let kills: Vec<String> = sqlx::query_scalar(
        "select coalesce(details ->> 'reason', '') from actions.audit_log where event = 'action.killed' and actor = 'system'",
    )
    .fetch_all(owner)
    .await
    .expect("the audit log");
    book.write(|history| (history.rows, history.left_in_queue, history.kills) = (rows, left, kills));
}

//! Many auth-cores: some with the Rust client, some in plain SQL, some that leave without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::Trigger;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use sqlx::{PgPool, Row};

use crate::history::{Asked, Book, Gate, Plan};

/// The actions, and how they are set up.
pub const GATES: [Gate; 5] = [
    Gate { project: "closed", trigger: "pre_authenticate", is_closed: true, is_fleeting: false },
    Gate { project: "open", trigger: "pre_register", is_closed: false, is_fleeting: false },
    Gate { project: "mint", trigger: "pre_token_mint", is_closed: false, is_fleeting: false },
    // Its condition is one that some of its events cannot be held against.
    Gate { project: "odd", trigger: "post_authenticate", is_closed: true, is_fleeting: false },
    Gate { project: "gone", trigger: "pre_register", is_closed: false, is_fleeting: true },
];

/// How long a connection is asked for before somebody else is.
const PATIENCE: Duration = Duration::from_secs(8);

/// What all of them share.
pub struct Crowd {
    pub book: Book,
    pub next: AtomicU64,
    pub last: u64,
    /// Each asks again after so long, on the average, so that all of them ask for as long as something goes wrong.
    pub pause: Duration,
}

/// Whoever got an error does not ask again at once.
const AFTER_AN_ERROR: Duration = Duration::from_millis(50);

/// An event, its place and its plan.
struct Event {
    n: u64,
    gate: Gate,
    plan: Plan,
    body: Value,
    text: String,
}

impl Crowd {
    fn event(&self, dice: &mut SmallRng) -> Option<Event> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= self.last {
            return None;
        }
        let gate = GATES[dice.random_range(0..GATES.len())];
        let plan = match dice.random_range(0..100) {
            0..70 => Plan::Allow,
            70..92 => Plan::Deny,
            92..97 => Plan::Fail,
            _ => Plan::Hang,
        };
        let body = json!({"n": n, "plan": plan.word(), "user": {"id": format!("user_{}", n % 500)}});
        // What no jsonb can hold.
        let text =
            if gate.project == "odd" && n.is_multiple_of(3) { body.to_string().replace("user_", "user_\\u0000") } else { body.to_string() };
        Some(Event { n, gate, plan, body, text })
    }

    fn asked(&self, event: &Event, by: &'static str) -> Asked {
        Asked {
            n: event.n,
            gate: event.gate,
            plan: event.plan,
            by,
            at_ms: self.book.now_ms(),
            acknowledged: None,
            wait_ms: None,
            again: None,
            outcome: None,
            error: None,
            ended_ms: 0,
            left: false,
        }
    }

    async fn write(&self, mut asked: Asked, dice: &mut SmallRng) {
        asked.ended_ms = self.book.now_ms();
        let pause = if asked.error.is_some() { AFTER_AN_ERROR } else { Duration::ZERO };
        self.book.write(|history| history.asked.push(asked));
        tokio::time::sleep(pause + self.pause.mul_f64(dice.random_range(0.0..2.0))).await;
    }
}

/// With the Rust client, one event after the other.
pub async fn with_client(crowd: Arc<Crowd>, client: Client, seed: u64) {
    let mut dice = SmallRng::seed_from_u64(seed);
    while let Some(event) = crowd.event(&mut dice) {
        let mut asked = crowd.asked(&event, "client");
        let trigger: Trigger = event.gate.trigger.parse().expect("a trigger");
        match client.invoke(event.gate.project, trigger, &event.body).await {
            Ok(answer) => {
                asked.acknowledged = answer.invocation_id;
                asked.outcome = Some(serde_json::from_str(&answer.outcome.to_json()).expect("JSON"));
            }
            Err(error) => asked.error = Some(error.to_string()),
        }
        crowd.write(asked, &mut dice).await;
    }
}

/// A client of its own; behind a pooler with another URL for LISTEN.
pub async fn client((url, listen_url): (String, Option<String>)) -> Client {
    let mut options = Options::new(&url);
    options.prepared_statements = listen_url.is_none();
    options.listen_url = listen_url.as_deref().map(Into::into);
    Client::connect(&options).await.expect("auth-core's client")
}

/// In plain SQL: LISTEN, enqueue, wait, and abandon at the deadline.
pub async fn with_sql(crowd: Arc<Crowd>, pool: PgPool, seed: u64) {
    let mut dice = SmallRng::seed_from_u64(seed);
    let channel = format!("chaos_{}", uuid::Uuid::new_v4().simple());
    let mut listener: Option<PgListener> = None;
    while let Some(event) = crowd.event(&mut dice) {
        if listener.is_none() {
            listener = listen(&pool, &channel).await;
        }
        let mut asked = crowd.asked(&event, "sql");
        asked.left = dice.random_range(0..6) == 0;
        let repeats = dice.random_range(0..10) == 0;
        let result = tokio::time::timeout(PATIENCE, ask(&pool, &mut listener, &channel, &event, repeats, &mut asked)).await;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                asked.error = Some(error.to_string());
                listener = None;
            }
            Err(_) => {
                asked.error = Some("the database did not answer in time".to_owned());
                listener = None;
            }
        }
        crowd.write(asked, &mut dice).await;
    }
}

async fn listen(pool: &PgPool, channel: &str) -> Option<PgListener> {
    let mut listener = tokio::time::timeout(PATIENCE, PgListener::connect_with(pool)).await.ok()?.ok()?;
    listener.ignore_pool_close_event(true);
    listener.listen(channel).await.ok()?;
    Some(listener)
}

async fn ask(
    pool: &PgPool,
    listener: &mut Option<PgListener>,
    channel: &str,
    event: &Event,
    repeats: bool,
    asked: &mut Asked,
) -> Result<(), sqlx::Error> {
    let event_id = repeats.then(new_event_id);
    let enqueue = "select invocation_id, wait_ms, outcome::text from actions.enqueue($1, $2, $3::json, $4, $5)";
    let report = async || {
        let reply_to = listener.as_ref().map(|_| channel);
        let query = sqlx::query(enqueue).bind(event.gate.project).bind(event.gate.trigger).bind(&event.text);
        query.bind(reply_to).bind(&event_id).fetch_one(pool).await
    };
    let row = report().await?;
    let Some(id) = row.get::<Option<String>, _>(0) else {
        asked.outcome = row.get::<Option<String>, _>(2).and_then(|outcome| serde_json::from_str(&outcome).ok());
        return Ok(());
    };
    let wait_ms: i32 = row.get(1);
    (asked.acknowledged, asked.wait_ms) = (Some(id.clone()), Some(wait_ms));
    if repeats {
        asked.again = report().await?.get(0);
    }
    if asked.left {
        return Ok(());
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms.unsigned_abs().into());
    loop {
        let heard = match listener.as_mut() {
            Some(listener) => tokio::time::timeout_at(deadline, listener.recv()).await.ok().transpose()?,
            None => {
                tokio::time::sleep_until(deadline).await;
                None
            }
        };
        let Some(notification) = heard else { break };
        let elements: Vec<Value> = serde_json::from_str(notification.payload()).unwrap_or_default();
        if elements.iter().any(|element| element["id"] == id.as_str()) {
            let row = sqlx::query("select outcome::text from actions.result($1)").bind(&id).fetch_one(pool).await?;
            asked.outcome = row.get::<Option<String>, _>(0).and_then(|outcome| serde_json::from_str(&outcome).ok());
            if asked.outcome.is_some() {
                return Ok(());
            }
        }
    }
    let row = sqlx::query("select outcome::text from actions.abandon($1)").bind(&id).fetch_one(pool).await?;
    asked.outcome = row.get::<Option<String>, _>(0).and_then(|outcome| serde_json::from_str(&outcome).ok());
    Ok(())
}

fn new_event_id() -> String {
    authio_actions::domain::new_event_id()
}

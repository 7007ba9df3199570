//! Short words for what most facts need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::stack::Stack;
use serde_json::Value;
use sqlx::{PgPool, Row};

/// The store's own access to a database.
pub fn store(url: &str) -> authio_actions::store::Database {
    let variable = ("ACTIONS_DATABASE__URL".to_owned(), url.to_owned());
    let config = authio_actions::config::Config::load(None, std::iter::once(variable)).unwrap();
    authio_actions::store::Database::new(&config.database, "facts").unwrap()
}

/// Where cargo put the binaries.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_actionsctl")).parent().unwrap().to_owned()
}

/// A stack whose endpoint always answers the same.
pub async fn answering(reply: Reply) -> Stack {
    Stack::start(&programs(), move |_| std::future::ready(reply.clone())).await
}

/// A stack whose endpoint answers by the request's path.
pub async fn by_path(replies: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Stack {
    let replies = Arc::new(replies);
    Stack::start(&programs(), move |request: Received| std::future::ready(replies(&request.path))).await
}

/// The row with which the interface answers.
#[derive(Debug, Clone)]
pub struct State {
    pub invocation_id: Option<String>,
    pub event_id: String,
    pub action_id: Option<String>,
    pub status: String,
    pub outcome: Option<Value>,
    pub wait_ms: i32,
}

impl State {
    pub fn id(&self) -> &str {
        self.invocation_id.as_deref().expect("an invocation")
    }

    pub fn outcome(&self) -> &Value {
        self.outcome.as_ref().expect("an outcome")
    }
}

/// Calls a function of the interface with text arguments.
pub async fn ask(pool: &PgPool, call: &str, arguments: &[&str]) -> Result<Vec<State>, sqlx::Error> {
    let sql = format!("select invocation_id, event_id, action_id, status, outcome::text, wait_ms from {call}");
    let query = arguments.iter().fold(sqlx::query(&sql), |query, argument| query.bind(*argument));
    let rows = query.fetch_all(pool).await?;
    Ok(rows
        .iter()
        .map(|row| State {
            invocation_id: row.get(0),
            event_id: row.get(1),
            action_id: row.get(2),
            status: row.get(3),
            // A number beyond f64 is valid JSON that Value cannot hold; such an outcome stays a text.
            outcome: row.get::<Option<&str>, _>(4).map(|json| serde_json::from_str(json).unwrap_or_else(|_| json.into())),
            wait_ms: row.get(5),
        })
        .collect())
}

pub async fn enqueue(pool: &PgPool, project: &str, trigger: &str, event: &str) -> State {
    ask(pool, "actions.enqueue($1, $2, $3::json)", &[project, trigger, event]).await.unwrap().remove(0)
}

pub async fn result(pool: &PgPool, id: &str) -> State {
    ask(pool, "actions.result($1)", &[id]).await.unwrap().remove(0)
}

pub async fn abandon(pool: &PgPool, id: &str) -> State {
    ask(pool, "actions.abandon($1)", &[id]).await.unwrap().remove(0)
}

/// Enqueues with a reply channel and waits for the outcome as any SQL client would: LISTEN,
/// then NOTIFY, then the row.
pub async fn invoke(stack: &Stack, project: &str, trigger: &str) -> State {
    invoke_event(stack, project, trigger, r#"{"user":{"id":"user_1"}}"#).await
}

pub async fn invoke_event(stack: &Stack, project: &str, trigger: &str, event: &str) -> State {
    let channel = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut listener = sqlx::postgres::PgListener::connect(&stack.database.url("core")).await.unwrap();
    listener.listen(&channel).await.unwrap();
    let call = "actions.enqueue($1, $2, $3::json, $4)";
    let state = ask(&stack.core, call, &[project, trigger, event, &channel]).await.unwrap().remove(0);
    if state.outcome.is_some() {
        return state;
    }
    heard(&mut listener, state.id()).await;
    result(&stack.core, state.id()).await
}

/// One element of a reply.
#[derive(Debug, serde::Deserialize)]
pub struct Element {
    pub id: String,
    pub token: Option<String>,
    pub status: String,
    pub outcome: Option<Box<serde_json::value::RawValue>>,
}

/// Waits until a notification names `id`; returns its element.
pub async fn heard(listener: &mut sqlx::postgres::PgListener, id: &str) -> Element {
    let wait = async {
        loop {
            let notification = listener.recv().await.unwrap();
            let elements: Vec<Element> = serde_json::from_str(notification.payload()).unwrap();
            if let Some(element) = elements.into_iter().find(|element| element.id == id) {
                return element;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("nobody told of {id}"))
}

/// Between two questions: asking without a pause would take the processor from those who answer.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Asks until the answer is true, with a pause between two questions.
pub async fn repeat(mut question: impl AsyncFnMut() -> bool) {
    let mut pause = tokio::time::interval(PAUSE);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !question().await {
        pause.tick().await;
    }
}

/// Waits until a query answers true, for as long as `what` may take.
pub async fn until(pool: &PgPool, what: &str, sql: &str) {
    let asking = repeat(async || sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.unwrap_or(false));
    if tokio::time::timeout(std::time::Duration::from_secs(30), asking).await.is_err() {
        let statuses = "select coalesce(json_agg(s), '[]')::text from (
            select status, error, count(*) from actions.recent_invocations group by 1, 2) s";
        let found = sqlx::query_scalar::<_, String>(statuses).fetch_one(pool).await;
        panic!("never: {what}; the invocations: {found:?}");
    }
}

/// The refusal of a call: SQLSTATE, message, detail, hint.
pub async fn refusal(pool: &PgPool, sql: &str) -> [String; 4] {
    let error = sqlx::query(sql).execute(pool).await.expect_err(sql);
    let database = error.into_database_error().expect("the database's own error");
    let postgres = database.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    [postgres.code(), postgres.message(), postgres.detail().unwrap_or_default(), postgres.hint().unwrap_or_default()].map(str::to_owned)
}

//! People who sign in meanwhile: auth-cores with the Rust client, and some in plain SQL that wait for the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::projects;

const CLIENTS: usize = 24;
const SQL: usize = 4;
/// Between two events of one of them.
const PAUSE: Duration = Duration::from_millis(20);
/// An enqueue that is not acknowledged by then counts as an error.
const PATIENCE: Duration = Duration::from_secs(3);

/// What they saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Since the last look: the time of each event that its endpoint decided.
    pub served: Vec<Duration>,
    /// Since the last look: events that ended in another way, by what it was.
    pub others: HashMap<String, usize>,
    /// All that were acknowledged by a commit that waited for the disk.
    pub acknowledged: Vec<String>,
    /// Outcomes that somebody acted on, by invocation.
    pub told: HashMap<String, String>,
}

/// All of them; they stop when dropped.
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub async fn start(core_url: &str, core: &PgPool) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let client = Client::connect(&Options::new(core_url)).await.expect("auth-core's client");
        let mut tasks: Vec<JoinHandle<()>> =
            projects().cycle().take(CLIENTS).map(|project| tokio::spawn(sign_in(client.clone(), project, Arc::clone(&seen)))).collect();
        tasks.extend(projects().take(SQL).map(|project| tokio::spawn(report(core.clone(), project, Arc::clone(&seen)))));
        Self { seen, tasks }
    }

    /// What was served and what was not since the last look.
    pub fn look(&self) -> (Vec<Duration>, HashMap<String, usize>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut seen.served), std::mem::take(&mut seen.others))
    }

    /// Stops all of them; everything that they saw.
    pub async fn stop(self) -> Seen {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn sign_in(client: Client, project: String, seen: Arc<Mutex<Seen>>) {
    let mut turns = tokio::time::interval(PAUSE);
    loop {
        turns.tick().await;
        let began = Instant::now();
        let answer = client.invoke(&project, Trigger::PreRegister, &json!({})).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                if answer.outcome.status == Status::Ok {
                    seen.served.push(began.elapsed());
                } else {
                    *seen.others.entry(answer.outcome.status.as_str().to_owned()).or_default() += 1;
                }
                if let Some(id) = answer.invocation_id {
                    seen.told.insert(id, answer.outcome.to_json());
                }
            }
            Err(_) => *seen.others.entry("error".to_owned()).or_default() += 1,
        }
    }
}

/// Leaves when the event is on disk, here and wherever it has to be.
async fn report(core: PgPool, project: String, seen: Arc<Mutex<Seen>>) {
    let mut turns = tokio::time::interval(PAUSE);
    loop {
        turns.tick().await;
        let sql = "select invocation_id from actions.enqueue($1, 'pre_register', '{}')";
        let asked = tokio::time::timeout(PATIENCE, sqlx::query_scalar(sql).bind(&project).fetch_one(&core)).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(Ok(id)) => seen.acknowledged.push(id),
            _ => *seen.others.entry("error".to_owned()).or_default() += 1,
        }
    }
}

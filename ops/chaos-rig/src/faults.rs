//! A seeded schedule of what goes wrong, and how it is done.

use std::fmt;
use std::time::Duration;

use authio_actions_testkit::process::Program;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sqlx::{Connection, Executor, PgConnection};

use crate::history::{Book, Done};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillWorker,
    /// For so many milliseconds.
    PauseWorker(u64),
    KillJanitor,
    PauseJanitor(u64),
    CrashDatabase,
    RestartDatabase,
    /// Every session of a role is ended.
    EndSessions(&'static str),
    LockQueue(u64),
    LongReader(u64),
    Migrate,
    RotateSecret,
    KillAndReenable(u64),
    UpdateAction,
    Shadow,
    Canary,
    Promote,
}

/// When, and what.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:?}", self.at.as_millis(), self.fault)
    }
}

impl Fault {
    /// Meanwhile the database is away or held up, so waiting longer proves nothing.
    fn is_of_database(self) -> bool {
        matches!(self, Self::CrashDatabase | Self::RestartDatabase | Self::EndSessions(_) | Self::LockQueue(_) | Self::Migrate)
    }
}

/// The schedule of a seed: so many faults within a time. Every other seed leaves the database alone, so that
/// nothing excuses whoever waits too long.
pub fn schedule(seed: u64, count: usize, within: Duration) -> Vec<Planned> {
    let mut dice = SmallRng::seed_from_u64(seed);
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let mut all: Vec<Planned> = (0..count)
        .map(|_| {
            let fault = match dice.random_range(0..20) {
                0..3 => Fault::KillWorker,
                3..5 => Fault::PauseWorker(dice.random_range(100..3_000)),
                5 => Fault::KillJanitor,
                6 => Fault::PauseJanitor(dice.random_range(500..4_000)),
                7 => Fault::CrashDatabase,
                8 => Fault::RestartDatabase,
                9 => Fault::EndSessions("test_worker"),
                10 => Fault::EndSessions("test_core"),
                11 => Fault::LockQueue(dice.random_range(50..800)),
                12 => Fault::LongReader(dice.random_range(500..4_000)),
                13 => Fault::Migrate,
                14 => Fault::RotateSecret,
                15 => Fault::KillAndReenable(dice.random_range(100..1_500)),
                16 => Fault::UpdateAction,
                17 => Fault::Shadow,
                18 => Fault::Canary,
                _ => Fault::Promote,
            };
            let fault = match dice.random_range(0..2) {
                _ if !fault.is_of_database() || seed.is_multiple_of(2) => fault,
                0 => Fault::KillWorker,
                _ => Fault::KillAndReenable(800),
            };
            Planned { at: Duration::from_millis(dice.random_range(200..within_ms)), fault }
        })
        .collect();
    all.sort_by_key(|planned| planned.at);
    all
}

/// What faults are done to.
pub struct Fleet<'a> {
    pub stack: &'a Stack,
    pub server: &'a Server,
    pub workers: Vec<Program>,
    pub janitors: Vec<Program>,
    pub actions: Vec<String>,
    pub book: Book,
}

pub const WORKER: &[(&str, &str)] = &[("ACTIONS_LOG__FILTER", "warn,authio_actions::fleet=info")];
pub const JANITOR: &[(&str, &str)] =
    &[("ACTIONS_LOG__FILTER", "warn,authio_actions::janitor=info"), ("ACTIONS_KILL_SWITCH__TICK_MS", "200")];

impl Fleet<'_> {
    /// Does one, and writes down when it was.
    pub async fn suffer(&mut self, fault: Fault, dice: &mut SmallRng) {
        let at_ms = self.book.now_ms();
        let is_of_database = fault.is_of_database();
        match fault {
            Fault::KillWorker => {
                let which = dice.random_range(0..self.workers.len());
                self.workers[which].kill().await;
                self.workers[which] = self.stack.worker(WORKER).await;
            }
            Fault::PauseWorker(ms) => {
                let which = dice.random_range(0..self.workers.len());
                pause(&self.workers[which], ms).await;
            }
            Fault::KillJanitor => {
                let which = dice.random_range(0..self.janitors.len());
                self.janitors[which].kill().await;
                self.janitors[which] = self.stack.janitor(JANITOR).await;
            }
            Fault::PauseJanitor(ms) => {
                let which = dice.random_range(0..self.janitors.len());
                pause(&self.janitors[which], ms).await;
            }
            Fault::CrashDatabase => {
                self.server.kill();
                self.server.run("restart", "fast");
            }
            Fault::RestartDatabase => self.server.run("restart", "fast"),
            Fault::EndSessions(role) => {
                let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
                self.as_owner(&sql).await;
            }
            Fault::LockQueue(ms) => {
                let sql = format!(
                    "begin; lock table actions_private.queue in access exclusive mode; select pg_sleep({}); commit",
                    ms as f64 / 1000.0
                );
                self.as_owner(&sql).await;
            }
            Fault::LongReader(ms) => {
                let sql = format!(
                    "begin isolation level repeatable read; select count(*) from actions_private.invocations; select pg_sleep({}); commit",
                    ms as f64 / 1000.0
                );
                self.as_owner(&sql).await;
            }
            Fault::Migrate => {
                let ctl = std::env::current_exe().expect("this program").with_file_name("actionsctl");
                let url = self.stack.database.owner_url();
                let mut migrate = Program::start(&ctl, &["migrate"], &[("ACTIONS_DATABASE__URL".to_owned(), url)]);
                let _ = migrate.ended().await;
            }
            Fault::RotateSecret => self.of_action("select actions.rotate_secret($1, 'chaos')", dice).await,
            Fault::KillAndReenable(ms) => {
                let action = self.actions[dice.random_range(0..self.actions.len())].clone();
                self.change("select actions.kill_action($1, 'chaos', 'chaos')", &action).await;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.change("select actions.reenable_action($1, 'chaos')", &action).await;
            }
            Fault::UpdateAction => self.of_action("select actions.update_action($1, '{\"timeout_ms\": 600}', 'chaos')", dice).await,
            Fault::Shadow => {
                self.of_action("select actions.stage_candidate($1, '{\"timeout_ms\": 700}', 'shadow', 60, 'chaos')", dice).await
            }
            Fault::Canary => {
                self.of_action("select actions.stage_candidate($1, '{\"timeout_ms\": 700}', 'canary', 60, 'chaos')", dice).await
            }
            Fault::Promote => self.of_action("select actions.promote_candidate($1, 'chaos')", dice).await,
        }
        let done = Done { at_ms, until_ms: self.book.now_ms(), what: format!("{fault:?}"), is_of_database };
        self.book.write(|history| history.done.push(done));
    }

    /// What the schema's owner does by himself; a database that is away is what was to be.
    async fn as_owner(&self, sql: &str) {
        if let Ok(mut connection) = PgConnection::connect(&self.stack.database.owner_url()).await {
            let _ = connection.execute(sql).await;
        }
    }

    async fn of_action(&self, sql: &str, dice: &mut SmallRng) {
        let action = self.actions[dice.random_range(0..self.actions.len())].clone();
        self.change(sql, &action).await;
    }

    /// A change that the interface may refuse, such as a second candidate.
    async fn change(&self, sql: &str, action: &str) {
        let _ = sqlx::query(sql).bind(action).execute(&self.stack.admin).await;
    }
}

async fn pause(program: &Program, ms: u64) {
    program.signal("STOP").await;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    program.signal("CONT").await;
}

//! What faults are done to, and how.

use std::time::Duration;

use authio_actions_testkit::line::Line;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::stack::Stack;
use rand::Rng;
use rand::rngs::SmallRng;
use sqlx::{Connection, Executor, PgConnection};

use crate::faults::{Fault, Who};
use crate::history::{Book, Done};
use crate::place::Place;

const WORKER: &[(&str, &str)] = &[("ACTIONS_LOG__FILTER", "warn,authio_actions::fleet=info")];
const JANITOR: &[(&str, &str)] = &[("ACTIONS_LOG__FILTER", "warn,authio_actions::janitor=info"), ("ACTIONS_KILL_SWITCH__TICK_MS", "200")];
/// More than the server has.
const CONNECTIONS: usize = 400;

/// The programs, and where they are.
pub struct Fleet<'a> {
    pub place: &'a mut Place,
    stack: &'a Stack,
    workers: Vec<Program>,
    janitors: Vec<Program>,
    actions: Vec<String>,
    book: Book,
}

impl<'a> Fleet<'a> {
    /// Two workers and two janitors.
    pub async fn start(place: &'a mut Place, stack: &'a Stack, actions: Vec<String>, book: Book) -> Self {
        let mut this = Self { place, stack, workers: Vec::new(), janitors: Vec::new(), actions, book };
        for _ in 0..2 {
            this.workers.push(this.worker().await);
            this.janitors.push(this.janitor().await);
        }
        this
    }

    async fn worker(&self) -> Program {
        self.start_program("actions-worker", "worker", WORKER, "working").await
    }

    async fn janitor(&self) -> Program {
        self.start_program("actions-janitor", "janitor", JANITOR, "watching").await
    }

    /// As a supervisor does: a program that finds no database ends, and is started again.
    async fn start_program(&self, name: &str, role: &str, settings: &[(&str, &str)], text: &str) -> Program {
        let path = std::env::current_exe().expect("this program").with_file_name(name);
        let own = self.place.environment(&self.stack.database, role);
        let variables = self.stack.environment(role, &[settings, &borrowed(&own)].concat());
        loop {
            let mut program = Program::start(&path, &[], &variables);
            if program.logs_before_it_ends(text).await {
                return program;
            }
            for_ms(200).await;
        }
    }

    /// Does one, and writes down when it was.
    pub async fn suffer(&mut self, fault: Fault, dice: &mut SmallRng) {
        let at_ms = self.book.now_ms();
        self.do_one(fault, dice).await;
        let done = Done {
            at_ms,
            until_ms: self.book.now_ms(),
            what: format!("{fault:?}"),
            is_of_database: fault.is_of_database(),
            aftermath_ms: self.place.aftermath_ms(),
        };
        self.book.write(|history| history.done.push(done));
    }

    async fn do_one(&mut self, fault: Fault, dice: &mut SmallRng) {
        match fault {
            Fault::KillWorker => {
                let which = dice.random_range(0..self.workers.len());
                self.workers[which].kill().await;
                self.workers[which] = self.worker().await;
            }
            Fault::PauseWorker(ms) => pause(&self.workers[dice.random_range(0..self.workers.len())], ms).await,
            Fault::KillJanitor => {
                let which = dice.random_range(0..self.janitors.len());
                self.janitors[which].kill().await;
                self.janitors[which] = self.janitor().await;
            }
            Fault::PauseJanitor(ms) => pause(&self.janitors[dice.random_range(0..self.janitors.len())], ms).await,
            Fault::Cut(who) => self.line(who).reset(),
            Fault::HalfOpen(who) => self.line(who).die(),
            Fault::LoseAnswer(who) => self.line(who).swallow_next_answer(),
            Fault::Slow(who, by, ms) => {
                self.line(who).slow_down(Duration::from_millis(by));
                for_ms(ms).await;
                self.line(who).slow_down(Duration::ZERO);
            }
            Fault::LongReader(ms) => {
                let sql = "begin isolation level repeatable read; select count(*) from actions_private.invocations";
                self.as_owner(&format!("{sql}; select pg_sleep({}); commit", seconds(ms))).await;
            }
            Fault::RotateSecret => self.of_action("select actions.rotate_secret($1, 'chaos')", dice).await,
            Fault::KillAndReenable(ms) => {
                let action = self.actions[dice.random_range(0..self.actions.len())].clone();
                self.change("select actions.kill_action($1, 'chaos', 'chaos')", &action).await;
                for_ms(ms).await;
                self.change("select actions.reenable_action($1, 'chaos')", &action).await;
            }
            Fault::UpdateAction => self.of_action("select actions.update_action($1, '{\"timeout_ms\": 600}', 'chaos')", dice).await,
            Fault::Swap => {
                let sql = "select actions.swap_action(live.action_id, spare.action_id, 'chaos') from actions.actions as live, actions.actions as spare
                    where live.action_id = $1 and live.enabled and spare.project_id = live.project_id and not spare.enabled";
                self.of_action(sql, dice).await;
            }
            Fault::Shadow => {
                self.of_action("select actions.stage_candidate($1, '{\"timeout_ms\": 700}', 'shadow', 60, 'chaos')", dice).await
            }
            Fault::Canary => {
                self.of_action("select actions.stage_candidate($1, '{\"timeout_ms\": 700}', 'canary', 60, 'chaos')", dice).await
            }
            Fault::Promote => self.of_action("select actions.promote_candidate($1, 'chaos')", dice).await,
            Fault::Erase => self.erase().await,
            Fault::CrashDatabase => self.place.crash(),
            Fault::RestartDatabase => self.place.restart(),
            Fault::Switchover => self.place.switch(true).await,
            Fault::PrimaryDies => self.place.switch(false).await,
            Fault::StandbyLags(ms) => self.place.pause_standby(Duration::from_millis(ms)).await,
            Fault::EndSessions(role) => {
                self.as_owner(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'")).await;
            }
            Fault::Lock(table, ms) => {
                let sql = format!("begin; lock table actions_private.{table} in access exclusive mode");
                self.as_owner(&format!("{sql}; select pg_sleep({}); commit", seconds(ms))).await;
            }
            Fault::Migrate => {
                let ctl = std::env::current_exe().expect("this program").with_file_name("actionsctl");
                let url = self.stack.database.owner_url();
                let mut migrate = Program::start(&ctl, &["migrate"], &[("ACTIONS_DATABASE__URL".to_owned(), url)]);
                let _ = migrate.ended().await;
            }
            Fault::Exhaust(ms) => {
                let url = self.stack.database.url("ops");
                let mut taken = Vec::new();
                while taken.len() < CONNECTIONS
                    && let Ok(connection) = PgConnection::connect(&url).await
                {
                    taken.push(connection);
                }
                for_ms(ms).await;
            }
            Fault::FillNotifyQueue(ms) => self.fill_notify_queue(ms).await,
            Fault::FillDisk(ms) => self.place.fill_disk(Duration::from_millis(ms)).await,
            Fault::StepClock(clock, seconds) => self.place.step_clock(clock, seconds),
        }
    }

    fn line(&self, who: Who) -> &Line {
        match who {
            Who::Clients => &self.place.clients,
            Who::Fleet => &self.place.fleet,
        }
    }

    /// It comes back by itself when its data is gone, which takes the fleet ten seconds and more.
    async fn erase(&self) {
        let erased = sqlx::query("select actions.delete_project('gone', 'chaos')").execute(&self.stack.admin).await;
        if erased.is_err() {
            return;
        }
        let (admin, url) = (self.stack.admin.clone(), self.stack.endpoint.url("/"));
        tokio::spawn(async move {
            for _ in 0..60 {
                for_ms(500).await;
                let again = "select actions.upsert_project('gone', 'Gone', true);
                    select actions.set_project_roles('gone', array['member'])";
                let action = "select actions.create_action('gone', 'pre_register', $1, 'Again', timeout_ms => 600)";
                if admin.execute(again).await.is_ok() && sqlx::query(action).bind(&url).execute(&admin).await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn fill_notify_queue(&self, ms: u64) {
        let url = self.stack.database.owner_url();
        let (Ok(mut listens), Ok(mut notifies)) = (PgConnection::connect(&url).await, PgConnection::connect(&url).await) else { return };
        // Versions before 17 have gigabytes of it, which nobody fills in a test.
        if sqlx::query("show max_notify_queue_pages").execute(&mut notifies).await.is_err() {
            return;
        }
        let _ = listens.execute("listen chaos_full").await;
        let _ = listens.execute("begin; select 1").await;
        let many = "select pg_notify('chaos_full', n || repeat('x', 7000)) from generate_series(1, 20) as n";
        for _ in 0..200 {
            if notifies.execute(many).await.is_err() {
                break;
            }
        }
        for_ms(ms).await;
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

    /// Whatever was killed or disabled on the way is live again.
    pub async fn calm_down(&self) {
        for action in &self.actions {
            self.change("select actions.reenable_action($1, 'chaos')", action).await;
        }
    }
}

fn borrowed(variables: &[(String, String)]) -> Vec<(&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

async fn for_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn pause(program: &Program, ms: u64) {
    program.signal("STOP").await;
    for_ms(ms).await;
    program.signal("CONT").await;
}

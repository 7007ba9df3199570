//! The test stand: a migrated database, an endpoint process, and workers.

use std::path::PathBuf;

use authio_actions_testkit::database::Database;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::stack;
use sqlx::PgPool;

use crate::cost::{Meter, postmaster};
use crate::endpoint::Endpoint;

pub const PROJECT: &str = "bench";

pub struct Stand {
    pub database: Database,
    pub endpoint: Endpoint,
    pub owner: PgPool,
    pub admin: PgPool,
    programs: PathBuf,
    authority_file: PathBuf,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.authority_file);
    }
}

impl Stand {
    pub async fn start() -> Self {
        let programs =
            std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from)).expect("the directory of the binaries");
        let database = Database::create(&programs.join("actionsctl")).await;
        let endpoint = Endpoint::start().await;
        let authority_file = std::env::temp_dir().join(format!("authio-actions-bench-{}-{}.pem", std::process::id(), endpoint.port));
        std::fs::write(&authority_file, &endpoint.authority).expect("a writable directory for temporary files");
        let stand =
            Self { owner: database.owner().await, admin: database.login("admin").await, database, endpoint, programs, authority_file };
        stand.project(PROJECT, "/").await;
        stand
    }

    /// A project with an action on `pre_authenticate`; the action's id.
    pub async fn project(&self, id: &str, path: &str) -> String {
        sqlx::query("select actions.upsert_project($1, 'Bench', true)").bind(id).execute(&self.admin).await.expect("a project");
        sqlx::query_scalar("select action_id from actions.create_action($1, 'pre_authenticate', $2, 'Bench', timeout_ms => 5000)")
            .bind(id)
            .bind(self.endpoint.url(path))
            .fetch_one(&self.admin)
            .await
            .expect("an action")
    }

    pub async fn worker(&self, more: &[(&str, &str)]) -> Program {
        let mut settings = vec![("ACTIONS_LOG__FILTER", "warn,authio_actions::fleet=info")];
        settings.extend(more);
        let environment = stack::environment(&self.database, &self.authority_file, "worker", &settings);
        let mut worker = Program::start(&self.programs.join("actions-worker"), &[], &environment);
        worker.logged("working").await;
        worker
    }

    pub async fn janitor(&self) -> Program {
        self.janitor_with(&[]).await
    }

    pub async fn janitor_with(&self, more: &[(&str, &str)]) -> Program {
        let mut settings = vec![("ACTIONS_LOG__FILTER", "info")];
        settings.extend(more);
        let environment = stack::environment(&self.database, &self.authority_file, "janitor", &settings);
        let mut janitor = Program::start(&self.programs.join("actions-janitor"), &[], &environment);
        janitor.logged("watching").await;
        janitor
    }

    /// A console that lets in whoever started it, and its address.
    pub async fn console(&self) -> (Program, String) {
        let address = authio_actions_testkit::scrape::free_address();
        let settings = [("ACTIONS_LOG__FILTER", "info"), ("ACTIONS_CONSOLE__LOGIN", "local"), ("ACTIONS_CONSOLE__LISTEN", &address)];
        let environment = stack::environment(&self.database, &self.authority_file, "console", &settings);
        let mut console = Program::start(&self.programs.join("actions-console"), &[], &environment);
        console.logged("serving the console").await;
        (console, address)
    }

    /// Ends programs in order, and tells if one had something to hide.
    pub async fn end(&self, programs: &mut [Program]) {
        for program in programs {
            assert!(program.drained().await.success(), "a program did not leave in order:\n{}", program.log());
        }
    }

    pub async fn meter(&self, workers: &[Program]) -> Meter {
        Meter {
            owner: self.owner.clone(),
            postmaster: postmaster(&self.owner).await,
            workers: workers.iter().map(Program::id).collect(),
            endpoint: self.endpoint.pid(),
        }
    }
}

//! The whole product on loopback: a database, an endpoint, workers and janitors.

use std::path::{Path, PathBuf};

use sqlx::PgPool;

use crate::certificate::Authority;
use crate::database::Database;
use crate::endpoint::{Endpoint, HOST, Received, Reply};
use crate::process::Program;

/// A root key as an operator would make it.
pub const ROOT_KEY: &str = "7d0c1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7";

/// Everything but the programs, which are started one by one.
pub struct Stack {
    /// Its database.
    pub database: Database,
    /// Its customer.
    pub endpoint: Endpoint,
    /// The control plane's connection.
    pub admin: PgPool,
    /// auth-core's connection.
    pub core: PgPool,
    /// The operators' connection.
    pub ops: PgPool,
    authority_file: PathBuf,
    programs: PathBuf,
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.authority_file);
    }
}

impl Stack {
    /// A migrated database and an endpoint. `programs` is the directory of the binaries.
    pub async fn start<F>(programs: &Path, handler: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let database = Database::create(&programs.join("actionsctl")).await;
        Self::on(database, programs, handler).await
    }

    /// The same on a database of your choice.
    pub async fn on<F>(database: Database, programs: &Path, handler: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let authority = Authority::default();
        let authority_file = std::env::temp_dir().join(format!("authio-actions-ca-{}.pem", uuid::Uuid::new_v4().simple()));
        std::fs::write(&authority_file, &authority.pem).expect("a writable directory for temporary files");
        Self {
            endpoint: Endpoint::start(&authority, handler).await,
            admin: database.login("admin").await,
            core: database.login("core").await,
            ops: database.login("ops").await,
            database,
            authority_file,
            programs: programs.to_owned(),
        }
    }

    /// From now on programs start from another directory.
    pub fn use_programs(&mut self, programs: &Path) {
        programs.clone_into(&mut self.programs);
    }

    /// The environment of a program with one role, and what a test adds to it.
    pub fn environment(&self, role: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        environment(&self.database, &self.authority_file, role, more)
    }

    /// Starts a worker and waits until it works.
    pub async fn worker(&self, more: &[(&str, &str)]) -> Program {
        let mut worker = Program::start(&self.programs.join("actions-worker"), &[], &self.environment("worker", more));
        worker.logged("working").await;
        worker
    }

    /// Starts a janitor and waits until it watches.
    pub async fn janitor(&self, more: &[(&str, &str)]) -> Program {
        let mut janitor = Program::start(&self.programs.join("actions-janitor"), &[], &self.environment("janitor", more));
        janitor.logged("watching").await;
        janitor
    }

    /// Starts a console on a free address and waits until it serves: the program and its address.
    pub async fn console(&self, more: &[(&str, &str)]) -> (Program, String) {
        let address = crate::scrape::free_address();
        let mut settings = vec![("ACTIONS_CONSOLE__LISTEN", address.as_str())];
        settings.extend(more);
        let mut console = Program::start(&self.programs.join("actions-console"), &[], &self.environment("console", &settings));
        console.logged("serving the console").await;
        (console, address)
    }

    /// Makes a project with the roles `member`, `auditor` and `billing_admin`.
    pub async fn project(&self, id: &str) {
        sqlx::query(
            "select actions.upsert_project($1, 'Acme', true), actions.set_project_roles($1, array['member', 'auditor', 'billing_admin'])",
        )
        .bind(id)
        .execute(&self.admin)
        .await
        .expect("a project");
    }

    /// Makes an action that calls `url`, and returns its id. `settings` are more arguments
    /// of `create_action`, such as `timeout_ms => 300`.
    pub async fn action(&self, project: &str, trigger: &str, url: &str, settings: &str) -> String {
        let comma = if settings.is_empty() { "" } else { ", " };
        let sql = format!("select action_id from actions.create_action($1, $2, $3, 'Sample'{comma}{settings})");
        let created = sqlx::query_scalar(&sql).bind(project).bind(trigger).bind(url).fetch_one(&self.admin).await;
        created.unwrap_or_else(|error| panic!("create_action: {error}"))
    }
}

/// The environment of a program that may call [`HOST`] on loopback. Of the variables in
/// `more`, later ones replace earlier ones.
pub fn environment(database: &Database, authority_file: &Path, role: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut variables = vec![
        ("ACTIONS_DATABASE__URL".to_owned(), database.url(role)),
        ("ACTIONS_SECRETS__ROOT_KEYS".to_owned(), format!("k1:{ROOT_KEY}")),
        ("ACTIONS_EGRESS__ALLOW_CIDRS".to_owned(), r#"["127.0.0.0/8"]"#.to_owned()),
        ("ACTIONS_EGRESS__RESOLVE".to_owned(), format!(r#"{{"{HOST}"=["127.0.0.1"]}}"#)),
        ("ACTIONS_EGRESS__EXTRA_CA_FILE".to_owned(), authority_file.display().to_string()),
        ("ACTIONS_LOG__FORMAT".to_owned(), "json".to_owned()),
        ("ACTIONS_LOG__FILTER".to_owned(), "info,authio_actions=debug".to_owned()),
    ];
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    variables
}

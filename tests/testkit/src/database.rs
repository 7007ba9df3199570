//! A database of one's own on the private server of `ops/with-postgres`, with a login for
//! each role.

use std::path::Path;

use sqlx::{Connection, Executor, PgConnection, PgPool};
use url::Url;

use crate::line::Line;

/// The variable in which `ops/with-postgres` gives the superuser's URL.
pub const SUPERUSER_URL: &str = "ACTIONS_TEST_DATABASE_URL";
const TEMPLATE: &str = "authio_actions_template";
const ROLES: [&str; 6] = ["core", "worker", "janitor", "admin", "ops", "console"];

/// A migrated database with logins `test_core`, `test_worker`, `test_janitor`, `test_admin` and
/// `test_ops`. The server it lives on is thrown away, so nobody drops it.
#[derive(Debug, Clone)]
pub struct Database {
    url: Url,
}

/// The superuser's URL of the private server.
pub fn superuser_url() -> String {
    std::env::var(SUPERUSER_URL).unwrap_or_else(|_| panic!("{SUPERUSER_URL} is not set; run this with: ops/with-postgres"))
}

impl Database {
    /// A copy of a migrated template, which the first caller makes with `actionsctl migrate`.
    pub async fn create(actionsctl: &Path) -> Self {
        Self::create_on(&superuser_url(), actionsctl).await
    }

    /// The same on a server of your choice.
    pub async fn create_on(superuser_url: &str, actionsctl: &Path) -> Self {
        let server = Url::parse(superuser_url).expect("a URL");
        let mut connection = PgConnection::connect(superuser_url).await.expect("the private server");
        // Copying a template needs it for itself, and so does making it: one at a time.
        lock(&mut connection).await;
        let template: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
            .bind(TEMPLATE)
            .fetch_optional(&mut connection)
            .await
            .expect("the catalogue");
        if template.is_none() {
            make_template(&mut connection, &server, actionsctl).await;
        }
        let this = Self::empty_on(&mut connection, &server, &format!("template {TEMPLATE}")).await;
        connection.close().await.expect("an orderly end");
        this
    }

    /// A database without any schema.
    pub async fn create_empty() -> Self {
        let url = superuser_url();
        let mut connection = PgConnection::connect(&url).await.expect("the private server");
        Self::empty_on(&mut connection, &Url::parse(&url).expect("a URL"), "").await
    }

    /// A migrated database that is created with options of `create database`.
    pub async fn create_with(options: &str, actionsctl: &Path) -> Self {
        let url = superuser_url();
        let mut connection = PgConnection::connect(&url).await.expect("the private server");
        let this = Self::empty_on(&mut connection, &Url::parse(&url).expect("a URL"), options).await;
        migrate(&this.url, actionsctl).await;
        lock(&mut connection).await;
        make_logins(&mut connection, &this.url).await;
        this
    }

    async fn empty_on(connection: &mut PgConnection, server: &Url, options: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        connection.execute(format!("create database {name} {options}").as_str()).await.expect("a new database");
        let mut url = server.clone();
        url.set_path(&name);
        Self { url }
    }

    /// The same database, reached over a line.
    #[must_use]
    pub fn over(&self, line: &Line) -> Self {
        Self { url: Url::parse(&line.url(self.url.as_str())).expect("a URL") }
    }

    /// The URL of the database's owner.
    pub fn owner_url(&self) -> String {
        self.url.to_string()
    }

    /// The URL of a login that has one role: `core`, `worker`, `janitor`, `admin` or `ops`.
    pub fn url(&self, role: &str) -> String {
        assert!(ROLES.contains(&role), "there is no role {role}");
        let mut url = self.url.clone();
        url.set_username(&format!("test_{role}")).expect("a URL with a host");
        url.to_string()
    }

    /// A pool as the owner.
    pub async fn owner(&self) -> PgPool {
        PgPool::connect(&self.owner_url()).await.expect("the owner may connect")
    }

    /// A pool as one role.
    pub async fn login(&self, role: &str) -> PgPool {
        PgPool::connect(&self.url(role)).await.expect("the role may connect")
    }
}

async fn migrate(url: &Url, actionsctl: &Path) {
    let migrate = tokio::process::Command::new(actionsctl).arg("migrate").env("ACTIONS_DATABASE__URL", url.as_str()).output().await;
    let output = migrate.expect("actionsctl runs");
    assert!(output.status.success(), "actionsctl migrate: {}", String::from_utf8_lossy(&output.stderr));
}

async fn make_template(connection: &mut PgConnection, server: &Url, actionsctl: &Path) {
    connection.execute(format!("create database {TEMPLATE}").as_str()).await.expect("a template");
    let mut url = server.clone();
    url.set_path(TEMPLATE);
    migrate(&url, actionsctl).await;
    make_logins(connection, server).await;
}

/// Until the connection ends.
async fn lock(connection: &mut PgConnection) {
    connection.execute("select pg_advisory_lock(77001)").await.expect("the lock");
}

/// Once a server: migrating made the roles.
async fn make_logins(connection: &mut PgConnection, server: &Url) {
    let password = server.password().unwrap_or_default();
    for role in ROLES {
        // A release before may not know a role.
        let wanted = "select exists (select from pg_roles where rolname = $1) and not exists (select from pg_roles where rolname = $2)";
        let wanted = sqlx::query_scalar(wanted).bind(format!("actions_{role}")).bind(format!("test_{role}"));
        if wanted.fetch_one(&mut *connection).await.expect("the catalogue") {
            let login = format!("create role test_{role} login password '{password}' in role actions_{role}");
            connection.execute(login.as_str()).await.expect("a login");
        }
    }
}

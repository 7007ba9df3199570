//! A PostgreSQL of one test alone, to be stopped and started; and two of which one follows the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection, Executor, PgConnection};

use crate::certificate::Authority;

/// A server that `ops/postgres` started; it is removed when dropped.
pub struct Server {
    dir: PathBuf,
    url: String,
    /// What its processes find in their environment beside what this one has.
    variables: Vec<(String, String)>,
}

impl Server {
    /// Starts one on a free port of loopback.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(settings: &[&str]) -> Self {
        Self::start_in(new_dir(), settings, Vec::new())
    }

    /// Starts one in a directory of your choice, such as one on a small disk, which is removed with it.
    pub fn start_in(dir: PathBuf, settings: &[&str], variables: Vec<(String, String)>) -> Self {
        let url = script(&[&["start", text(&dir)], settings].concat(), &variables);
        Self { dir, url, variables }
    }

    /// From now on it also speaks TLS, with a certificate for its address that ends with a year.
    pub async fn speak_tls(&self, authority: &Authority, last_year: i32) {
        let mut superuser = PgConnection::connect(&self.url).await.expect("it answers");
        let (certificate, key) = authority.pem(&["127.0.0.1"], last_year);
        for (file, pem) in [("server.crt", certificate), ("server.key", key)] {
            // In its own directory and as its own user, which this one may not be.
            let lines = pem.lines().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(",");
            let copy = format!("copy (values {lines}) to program 'umask 077; cat > {file}'");
            superuser.execute(copy.as_str()).await.expect("it may write there");
        }
        superuser.execute("alter system set ssl = on").await.expect("it knows TLS");
        superuser.execute("select pg_reload_conf()").await.expect("it reads its files");
    }

    /// The superuser's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `stop` or `restart`, `fast` or `immediate`. Blocks.
    pub fn run(&self, command: &str, mode: &str) {
        script(&[command, text(&self.dir), mode], &self.variables);
    }

    /// Ends each of its processes at once. Blocks.
    pub fn kill(&self) {
        script(&["kill", text(&self.dir)], &[]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script(&["remove", text(&self.dir)], &[]);
    }
}

/// A primary and a synchronous standby: what the primary acknowledged is on both.
pub struct Pair {
    primary: Server,
    standby: Server,
    /// What should follow was killed.
    is_alone: bool,
}

impl Pair {
    /// Starts both.
    pub async fn start() -> Self {
        // Shared memory in files of its own, which go with its directory, however it ends.
        let primary = Server::start_with(&["dynamic_shared_memory_type=mmap", "fsync=off"]);
        let dir = new_dir();
        let url = follow(&dir, &primary);
        let this = Self { primary, standby: Server { dir, url, variables: Vec::new() }, is_alone: false };
        this.replicate_synchronously().await;
        this
    }

    /// The one that takes writes.
    pub fn primary(&self) -> &Server {
        &self.primary
    }

    /// The one that follows.
    pub fn standby(&self) -> &Server {
        &self.standby
    }

    /// The primary stops in an orderly way, and is back as a standby that follows the other. There is
    /// no primary then.
    pub fn step_down(&mut self) {
        self.primary.run("stop", "fast");
        // With everything that the other has it needs no new copy.
        let conninfo = std::fs::read_to_string(self.standby.dir.join("data/postgresql.auto.conf")).expect("written by follow");
        let port = |server: &Server| std::fs::read_to_string(server.dir.join("port")).expect("written by start").trim().to_owned();
        let turned = conninfo.replace(&format!("port={}", port(&self.primary)), &format!("port={}", port(&self.standby)));
        std::fs::write(self.primary.dir.join("data/postgresql.auto.conf"), turned).expect("our own file");
        std::fs::write(self.primary.dir.join("data/standby.signal"), "").expect("our own file");
        self.primary.run("restart", "fast");
    }

    /// The primary is killed.
    pub fn kill(&mut self) {
        self.primary.kill();
        self.is_alone = true;
    }

    /// The standby becomes the primary, and answers.
    pub fn promote(&mut self) {
        script(&["promote", text(&self.standby.dir)], &[]);
        std::mem::swap(&mut self.primary, &mut self.standby);
    }

    /// After a switch: the standby has everything again, one that was killed with a new copy. From
    /// then on what the primary acknowledges is on both.
    pub async fn repair(&mut self) {
        if std::mem::take(&mut self.is_alone) {
            self.standby.url = follow(&self.standby.dir, &self.primary);
        }
        self.replicate_synchronously().await;
    }

    /// Until the next switch; who is promoted waits for nobody.
    async fn replicate_synchronously(&self) {
        let mut standby = PgConnection::connect(self.standby.url()).await.expect("the standby");
        let mut primary = PgConnection::connect(self.primary.url()).await.expect("the primary");
        primary.execute("alter system set synchronous_standby_names = '*'").await.expect("a superuser's right");
        standby.execute("alter system reset synchronous_standby_names").await.expect("a superuser's right");
        for connection in [&mut primary, &mut standby] {
            connection.execute("select pg_reload_conf()").await.expect("a superuser's right");
        }
        // Returns when the standby has it.
        primary.execute("create table if not exists replicated (only_row boolean)").await.expect("a superuser's right");
    }
}

/// The URL of a server that was copied from another and follows it.
fn follow(dir: &Path, of: &Server) -> String {
    script(&["follow", text(dir), text(&of.dir)], &[])
}

fn new_dir() -> PathBuf {
    std::env::temp_dir().join(format!("authio-actions-server-{}", uuid::Uuid::new_v4().simple()))
}

fn text(dir: &Path) -> &str {
    dir.to_str().expect("a name in UTF-8")
}

fn script(arguments: &[&str], variables: &[(String, String)]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/postgres");
    let mut command = Command::new(script);
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
    let output = tokio::task::block_in_place(|| command.output()).expect("ops/postgres runs");
    assert!(output.status.success(), "ops/postgres {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a URL").trim().to_owned()
}

//! Where it happens: one server or two, the lines to them, a pooler, a small disk, clocks that step.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use authio_actions_testkit::database::Database;
use authio_actions_testkit::line::Line;
use authio_actions_testkit::pooler::Pooler;
use authio_actions_testkit::server::{Pair, Server};
use sqlx::{Connection, Executor, PgConnection};

/// What a seed happens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server, and nobody touches it: nothing excuses whoever waits too long.
    Quiet,
    /// `PgBouncer` in transaction mode between the programs and the server.
    Pooled,
    /// A primary and a synchronous standby.
    Pair,
    /// A small disk, and clocks that step; where the machine lets us have them.
    Troubled,
}

impl Kind {
    pub fn of(seed: u64) -> Self {
        match seed % 6 {
            0 => Self::Pooled,
            2 => Self::Pair,
            4 => Self::Troubled,
            _ => Self::Quiet,
        }
    }
}

enum Servers {
    One(Server),
    Two(Pair),
}

/// A place, which is removed when dropped.
pub struct Place {
    servers: Servers,
    /// The way of everybody who is not part of the product.
    pub direct: Line,
    /// The way of auth-cores with the Rust client.
    pub clients: Line,
    /// The way of workers and janitors.
    pub fleet: Line,
    pooler: Option<Pooler>,
    clocks: Option<Clocks>,
    // After the server that lives on it.
    disk: Option<SmallDisk>,
}

impl Place {
    pub async fn prepare(kind: Kind, programs: &Path) -> (Self, Database) {
        let (mut disk, mut clocks) = (None, None);
        let servers = match kind {
            Kind::Pair => Servers::Two(Pair::start().await),
            Kind::Troubled => {
                (disk, clocks) = (SmallDisk::mount(), Clocks::start());
                let dir = disk.as_ref().map_or_else(|| temporary("server"), |disk| disk.dir.join("server"));
                let variables = clocks.as_ref().map(|clocks| clocks.variables(Clock::Server)).unwrap_or_default();
                Servers::One(Server::start_in(dir, &["max_wal_size=128MB", "min_wal_size=64MB"], variables))
            }
            Kind::Quiet | Kind::Pooled => Servers::One(Server::start()),
        };
        let url = match &servers {
            Servers::One(server) => server.url(),
            Servers::Two(pair) => pair.primary().url(),
        };
        make_notify_queue_small(url).await;
        if let Servers::One(server) = &servers {
            server.run("restart", "fast");
        }
        let (direct, clients, fleet) = (Line::to(url).await, Line::to(url).await, Line::to(url).await);
        let database = Database::create_on(url, &programs.join("actionsctl")).await.over(&direct);
        let pooler = if kind == Kind::Pooled { Pooler::start(&database, &["core", "worker", "janitor"]).await } else { None };
        (Self { servers, direct, clients, fleet, pooler, clocks, disk }, database)
    }

    /// How a program of the fleet reaches the database, and which clock it reads.
    pub fn environment(&self, database: &Database, role: &str) -> Vec<(String, String)> {
        let url = self.fleet.url(&database.url(role));
        let mut variables = match &self.pooler {
            Some(pooler) => vec![
                ("ACTIONS_DATABASE__URL".to_owned(), pooler.url(&url)),
                ("ACTIONS_DATABASE__LISTEN_URL".to_owned(), url),
                // Debian's version knows none.
                ("ACTIONS_DATABASE__PREPARED_STATEMENTS".to_owned(), "false".to_owned()),
            ],
            None => vec![("ACTIONS_DATABASE__URL".to_owned(), url)],
        };
        variables.extend(self.clocks.as_ref().map(|clocks| clocks.variables(Clock::Fleet)).unwrap_or_default());
        variables
    }

    /// How the Rust client reaches the database: its URL, and another for LISTEN behind a pooler.
    pub fn of_client(&self, database: &Database) -> (String, Option<String>) {
        let url = self.clients.url(&database.url("core"));
        match &self.pooler {
            Some(pooler) => (pooler.url(&url), Some(url)),
            None => (url, None),
        }
    }

    /// What this machine does not let us do.
    pub fn lacks(&self, kind: Kind) -> Vec<&'static str> {
        let lacking = [
            (kind == Kind::Pooled && self.pooler.is_none(), "no PgBouncer"),
            (kind == Kind::Troubled && self.disk.is_none(), "no small disk"),
            (kind == Kind::Troubled && self.clocks.is_none(), "no faketime"),
        ];
        lacking.into_iter().filter_map(|(is_lacking, what)| is_lacking.then_some(what)).collect()
    }

    /// How long a fault of the database lasts beyond its end. `PgBouncer` tries a server that was away again after 15 s
    /// (`server_login_retry`).
    pub fn aftermath_ms(&self) -> u64 {
        if self.pooler.is_some() { 16_000 } else { 4_000 }
    }

    pub fn crash(&self) {
        if let Servers::One(server) = &self.servers {
            server.kill();
            server.run("restart", "fast");
        }
    }

    pub fn restart(&self) {
        if let Servers::One(server) = &self.servers {
            server.run("restart", "fast");
        }
    }

    /// The standby takes over, from a primary that steps down or from one that dies.
    pub async fn switch(&mut self, is_orderly: bool) {
        let Servers::Two(pair) = &mut self.servers else { return };
        if is_orderly {
            pair.step_down();
        } else {
            pair.kill();
        }
        pair.promote();
        for line in [&self.direct, &self.clients, &self.fleet] {
            line.lead_to(pair.primary().url());
            // As an address that moves: whoever is connected to the old one finds nobody there.
            line.reset();
        }
        pair.repair().await;
    }

    /// The standby writes nothing that comes from the primary, for a time.
    pub async fn pause_standby(&self, within: Duration) {
        let Servers::Two(pair) = &self.servers else { return };
        let Ok(mut standby) = PgConnection::connect(pair.standby().url()).await else { return };
        let receiver: Option<i32> =
            sqlx::query_scalar("select pid from pg_stat_wal_receiver").fetch_optional(&mut standby).await.unwrap_or_default();
        let Some(receiver) = receiver else { return };
        let signal = |name: &str| Command::new("kill").args([name, &receiver.to_string()]).status().expect("kill runs");
        signal("-STOP");
        tokio::time::sleep(within).await;
        signal("-CONT");
    }

    /// Whatever the disk has left is taken, and given back after a time.
    pub async fn fill_disk(&self, within: Duration) {
        let (Some(disk), Servers::One(server)) = (&self.disk, &self.servers) else { return };
        let filler = disk.dir.join("filler");
        tokio::task::block_in_place(|| fill(&filler));
        tokio::time::sleep(within).await;
        std::fs::remove_file(&filler).expect("our own file");
        // A server that could not even start again is started by whoever made room.
        let mut tries = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..20 {
            tries.tick().await;
            if PgConnection::connect(server.url()).await.is_ok() {
                return;
            }
        }
        server.run("restart", "immediate");
    }

    pub fn step_clock(&self, clock: Clock, seconds: i64) {
        if let Some(clocks) = &self.clocks {
            clocks.step(clock, seconds);
        }
    }
}

/// Where the server can do so, its queue of notifications is as small as it may be.
async fn make_notify_queue_small(url: &str) {
    let mut superuser = PgConnection::connect(url).await.expect("the server");
    // Only versions from 17 on know the setting.
    let _ = superuser.execute("alter system set max_notify_queue_pages = 64").await;
}

fn temporary(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("authio-actions-{what}-{}", uuid::Uuid::new_v4().simple()))
}

fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).expect("a file on the small disk");
    for size in [1 << 20, 4096] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// A file system in memory that ends soon.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// `None` where nobody lets us mount one.
    fn mount() -> Option<Self> {
        let dir = temporary("disk");
        std::fs::create_dir(&dir).expect("a writable directory for temporary files");
        let this = Self { dir };
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=640m", "tmpfs"]).arg(&this.dir).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(this)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).output();
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// Whose clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Server,
    Fleet,
}

/// Clocks that `libfaketime` shows to processes, each as a file tells it.
struct Clocks {
    dir: PathBuf,
    library: PathBuf,
}

impl Clocks {
    /// `None` where libfaketime is not installed.
    fn start() -> Option<Self> {
        let library = std::fs::read_dir("/usr/lib").ok()?.flatten().find_map(|entry| {
            let library = entry.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        })?;
        let dir = temporary("clocks");
        std::fs::create_dir(&dir).expect("a writable directory for temporary files");
        let this = Self { dir, library };
        this.step(Clock::Server, 0);
        this.step(Clock::Fleet, 0);
        Some(this)
    }

    fn file(&self, clock: Clock) -> PathBuf {
        self.dir.join(format!("{clock:?}"))
    }

    fn variables(&self, clock: Clock) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(clock).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn step(&self, clock: Clock, seconds: i64) {
        std::fs::write(self.file(clock), format!("{seconds:+}\n")).expect("our own file");
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

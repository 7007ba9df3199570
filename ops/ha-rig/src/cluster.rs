//! Three nodes with PostgreSQL and Patroni, etcd, and HAProxy before them, as an operator would set them up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use authio_actions_testkit::scrape;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::process::Child;
use tokio::time::Instant;

const NODES: usize = 3;
/// Three nodes that start, one after the other copied from the first, take longer than anything else.
const PATIENCE: Duration = Duration::from_secs(90);
/// Patroni's cycle. A node that vanished is noticed when its lease of `TTL_S` is over.
const LOOP_S: u64 = 1;
const TTL_S: u64 = 10;

/// Everything that is started; it goes when dropped.
pub struct Cluster {
    dir: PathBuf,
    password: String,
    nodes: Vec<Node>,
    proxy_port: u16,
    is_synchronous: bool,
    etcd_port: u16,
    _etcd: Child,
    _proxy: Child,
}

struct Node {
    name: String,
    dir: PathBuf,
    port: u16,
    rest: String,
    patroni: Option<Child>,
}

/// How a primary goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An operator asks for it.
    Switchover,
    /// Its server is killed; Patroni is still there.
    Crash,
    /// Its server and its Patroni are gone without a word.
    Vanish,
}

impl Cluster {
    /// Starts it; the first node is the primary at first.
    pub async fn start(is_synchronous: bool) -> Self {
        let dir = std::env::temp_dir().join(format!("authio-actions-ha-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&dir).expect("a writable directory for temporary files");
        let password = uuid::Uuid::new_v4().simple().to_string();
        let (etcd_port, peer_port, proxy_port) = (free_port(), free_port(), free_port());
        let nodes: Vec<Node> = (1..=NODES)
            .map(|n| {
                let name = format!("node{n}");
                Node { dir: dir.join(&name), name, port: free_port(), rest: scrape::free_address(), patroni: None }
            })
            .collect();
        for node in &nodes {
            std::fs::create_dir(&node.dir).expect("our own directory");
        }
        std::fs::write(dir.join("haproxy.cfg"), proxy_configuration(&nodes, proxy_port)).expect("our own file");
        give_away(&dir);
        let client = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let data = dir.join("etcd").display().to_string();
        let etcd = spawn(
            &dir,
            "etcd",
            "/usr/bin/etcd",
            &[
                "--data-dir",
                &data,
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
            ],
        );
        let proxy = spawn(&dir, "haproxy", "/usr/sbin/haproxy", &["-db", "-f", &dir.join("haproxy.cfg").display().to_string()]);
        let mut this = Self { dir, password, nodes, proxy_port, is_synchronous, etcd_port, _etcd: etcd, _proxy: proxy };
        for n in 0..NODES {
            this.start_node(n);
            // The first one makes the cluster; the others copy it.
            if n == 0 {
                this.primary().await;
            }
        }
        this.is_whole().await;
        this
    }

    /// The superuser's URL, over HAProxy.
    pub fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.proxy_port)
    }

    /// The hosts of all nodes, as a URL may name them.
    pub fn hosts(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// `127.0.0.1` and the port of HAProxy.
    pub fn proxy(&self) -> String {
        format!("127.0.0.1:{}", self.proxy_port)
    }

    /// The primary goes; returns when another answers: its name, and how long nobody did.
    pub async fn end_primary(&mut self, how: End) -> (String, Duration) {
        let old = self.primary().await;
        let began = Instant::now();
        match how {
            End::Switchover => {
                let coming = self.synchronous_standby().await;
                let (config, dir) = (self.nodes[old].dir.join("patroni.json"), self.dir.clone());
                let (old, coming) = (self.nodes[old].name.clone(), self.nodes[coming].name.clone());
                tokio::task::spawn_blocking(move || {
                    let arguments = ["switchover", "--master", &old, "--candidate", &coming, "--force"];
                    let output = Command::new("/usr/bin/patronictl").arg("-c").arg(config).args(arguments).current_dir(dir).output();
                    let output = output.expect("patronictl runs");
                    assert!(output.status.success(), "patronictl: {}", String::from_utf8_lossy(&output.stdout));
                })
                .await
                .expect("it ends");
            }
            End::Crash => kill_server(&self.nodes[old].dir),
            End::Vanish => {
                if let Some(patroni) = &mut self.nodes[old].patroni {
                    patroni.kill().await.expect("it was there");
                }
                self.nodes[old].patroni = None;
                kill_server(&self.nodes[old].dir);
            }
        }
        let new = loop {
            let new = self.primary().await;
            if new != old {
                break new;
            }
        };
        (self.nodes[new].name.clone(), began.elapsed())
    }

    /// The name of the primary.
    pub async fn primary_name(&self) -> String {
        self.nodes[self.primary().await].name.clone()
    }

    /// Nodes that went are started again; returns when all follow.
    pub async fn repair(&mut self) {
        for n in 0..NODES {
            if self.nodes[n].patroni.is_none() {
                self.start_node(n);
            }
        }
        self.is_whole().await;
    }

    fn start_node(&mut self, n: usize) {
        let config = self.configuration(&self.nodes[n]);
        let file = self.nodes[n].dir.join("patroni.json");
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_vec_pretty(&config).expect("JSON")).expect("our own file");
        give_away(&file);
        let patroni = spawn(&self.nodes[n].dir, "patroni", "/usr/bin/patroni", &[&file.display().to_string()]);
        self.nodes[n].patroni = Some(patroni);
    }

    fn configuration(&self, node: &Node) -> Value {
        let login = |name: &str| json!({"username": name, "password": self.password});
        json!({
            "scope": "actions",
            "name": node.name,
            "restapi": {"listen": node.rest, "connect_address": node.rest},
            "etcd3": {"host": format!("127.0.0.1:{}", self.etcd_port)},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S, "loop_wait": LOOP_S, "retry_timeout": 3,
                    // A server that crashed is replaced at once, and not started again first.
                    "master_start_timeout": 0,
                    "synchronous_mode": self.is_synchronous,
                    "postgresql": {"use_pg_rewind": true, "remove_data_directory_on_rewind_failure": true},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": format!("127.0.0.1:{}", node.port),
                "connect_address": format!("127.0.0.1:{}", node.port),
                "data_dir": node.dir.join("data"),
                "bin_dir": server_programs(),
                "pgpass": node.dir.join("pgpass"),
                "authentication": {"superuser": login("postgres"), "replication": login("replicator"), "rewind": login("rewinder")},
                "parameters": {
                    "unix_socket_directories": node.dir, "max_connections": 200, "wal_keep_size": "1GB", "autovacuum_naptime": "5s",
                    "password_encryption": "scram-sha-256",
                },
                "pg_hba": ["host all all 127.0.0.1/32 scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256"],
            },
        })
    }

    /// The node that takes writes; waits until there is one.
    async fn primary(&self) -> usize {
        let mut turns = tokio::time::interval(Duration::from_millis(20));
        let began = Instant::now();
        loop {
            turns.tick().await;
            for (n, node) in self.nodes.iter().enumerate() {
                let url = format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, node.port);
                let asked = async {
                    let mut connection = PgConnection::connect(&url).await.ok()?;
                    sqlx::query_scalar("select not pg_is_in_recovery()").fetch_one(&mut connection).await.ok()
                };
                if tokio::time::timeout(Duration::from_millis(500), asked).await == Ok(Some(true)) {
                    return n;
                }
            }
            assert!(began.elapsed() < PATIENCE, "no node is the primary; see the logs in {}", self.dir.display());
        }
    }

    async fn members(&self) -> Vec<Value> {
        for node in self.nodes.iter().filter(|node| node.patroni.is_some()) {
            if tokio::net::TcpStream::connect(&node.rest).await.is_err() {
                continue;
            }
            let (_, body) = scrape::get(&node.rest, "/cluster").await;
            let cluster: Value = serde_json::from_str(&body).unwrap_or_default();
            if let Some(members) = cluster["members"].as_array() {
                return members.clone();
            }
        }
        Vec::new()
    }

    /// The node that has everything that was acknowledged; any that follows, where none has to.
    async fn synchronous_standby(&self) -> usize {
        let wanted = if self.is_synchronous { "sync_standby" } else { "replica" };
        let members = self.members().await;
        let name = members.iter().find(|member| member["role"] == wanted).and_then(|member| member["name"].as_str());
        self.nodes.iter().position(|node| Some(node.name.as_str()) == name).unwrap_or_else(|| panic!("no {wanted} among {members:?}"))
    }

    /// Waits until every node is there, one of them the leader and, where it shall be so, one synchronous.
    async fn is_whole(&self) {
        let mut turns = tokio::time::interval(Duration::from_millis(200));
        let began = Instant::now();
        loop {
            turns.tick().await;
            let members = self.members().await;
            let count = |role: &str| members.iter().filter(|member| member["role"] == role).count();
            let follow =
                members.iter().filter(|member| ["running", "streaming"].contains(&member["state"].as_str().unwrap_or_default())).count();
            if follow == NODES && count("leader") == 1 && (!self.is_synchronous || count("sync_standby") == 1) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not every node follows; see the logs in {}: {members:?}", self.dir.display());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(patroni) = &mut node.patroni {
                // Killed, it leaves the server running.
                let _ = patroni.start_kill();
            }
            if node.dir.join("data/postmaster.pid").exists() {
                kill_server(&node.dir);
            }
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn proxy_configuration(nodes: &[Node], port: u16) -> String {
    let servers: String = nodes
        .iter()
        .map(|node| {
            let (name, port, rest) = (&node.name, node.port, node.rest.rsplit(':').next().unwrap_or_default());
            format!("  server {name} 127.0.0.1:{port} check port {rest}\n")
        })
        .collect();
    format!(
        "global\n  maxconn 1000\ndefaults\n  mode tcp\n  timeout connect 1s\n  retries 1\n  option redispatch\n  timeout client 1h\n  timeout server 1h\n\
         frontend primary\n  bind 127.0.0.1:{port}\n  default_backend nodes\n\
         backend nodes\n  option httpchk OPTIONS /primary\n  http-check expect status 200\n\
         \x20 default-server inter 500ms fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions\n{servers}"
    )
}

fn server_programs() -> String {
    let mut found: Vec<String> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL of Debian")
        .flatten()
        .map(|version| version.path().join("bin").display().to_string())
        .collect();
    found.sort();
    found.pop().expect("a version of PostgreSQL")
}

fn free_port() -> u16 {
    let address = scrape::free_address();
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0);
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).filter(|_| is_root)?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn give_away(path: &Path) {
    if let Some((user, group)) = server_user() {
        let status = Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(path).status().expect("chown runs");
        assert!(status.success());
    }
}

fn spawn(dir: &Path, name: &str, program: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join(format!("{name}.log"))).expect("our own file");
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("HOME", dir);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).kill_on_drop(true);
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}"))
}

/// Each of its processes at once. Blocks.
fn kill_server(dir: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../postgres");
    let output = Command::new(script).arg("kill").arg(dir).output().expect("ops/postgres runs");
    assert!(output.status.success(), "ops/postgres kill: {}", String::from_utf8_lossy(&output.stderr));
}

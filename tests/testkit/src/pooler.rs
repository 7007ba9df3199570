//! PgBouncer in transaction mode before a database, where the program is installed.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use url::Url;

use crate::database::Database;

/// A running pooler; it is killed when dropped.
pub struct Pooler {
    port: u16,
    dir: std::path::PathBuf,
    _process: Child,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Pooler {
    /// Starts one with its defaults and few connections to the server; `None` where PgBouncer is not installed.
    pub async fn start(database: &Database, roles: &[&str]) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| std::path::Path::new(path).exists())?;
        let owner = Url::parse(&database.owner_url()).expect("a URL");
        let dir = std::env::temp_dir().join(format!("authio-actions-pooler-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&dir).expect("a writable directory for temporary files");
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("a bound port").port()
        };
        let password = owner.password().unwrap_or_default();
        let users: String = roles.iter().map(|role| format!("\"test_{role}\" \"{password}\"\n")).collect();
        std::fs::write(dir.join("users"), users).expect("a file");
        let name = owner.path().trim_start_matches('/');
        let settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\n",
            owner.port().expect("a port"),
            dir.join("users").display(),
        );
        std::fs::write(dir.join("pgbouncer.ini"), settings).expect("a file");
        let mut command = Command::new(program);
        command.arg(dir.join("pgbouncer.ini")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
        if is_root {
            // It refuses to run as root.
            let status = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(&dir).status().expect("chmod runs");
            assert!(status.success());
            command.uid(65_534);
        }
        let process = command.spawn().expect("it starts");
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..500 {
            tries.tick().await;
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(Self { port, dir, _process: process });
            }
        }
        panic!("PgBouncer does not listen; see {}", dir.display());
    }

    /// A URL of the database, through the pooler.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        url.to_string()
    }
}

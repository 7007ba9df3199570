//! The units of systemd, and what their programs tell a service manager.

use std::path::{Path, PathBuf};
use std::time::Duration;

use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::ROOT_KEY;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{answering, programs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The values of a key in a unit, without comments.
fn values(unit: &str, key: &str) -> Vec<String> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

/// A folder of a test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("authio-actions-unit-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A service manager, which hears whatever is said, as long as it lives.
struct Manager(UnboundedReceiver<String>);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (sender, heard) = unbounded_channel();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes).await {
                String::from_utf8_lossy(&bytes[..length]).lines().for_each(|line| drop(sender.send(line.to_owned())));
            }
        });
        Self(heard)
    }

    /// Waits until it is told this.
    async fn hears(&mut self, what: &str) {
        let hearing = async { while self.0.recv().await.as_deref() != Some(what) {} };
        tokio::time::timeout(Duration::from_secs(30), hearing).await.unwrap_or_else(|_| panic!("nobody said {what}"));
    }
}

/// The unit with the drop-in that its own comment shows, if any.
fn with_drop_in(unit: &str) -> String {
    let shown = unit.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| line.contains('='));
    unit.to_owned() + &shown.map(|line| format!("{line}\n")).collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unit_starts_its_program_with_credentials_and_hears_when_it_is_ready_alive_and_leaving() {
    let stack = answering(Reply::json("{}")).await;
    for name in ["worker", "janitor", "console"] {
        let unit = with_drop_in(&std::fs::read_to_string(root().join(format!("ops/systemd/actions-{name}.service"))).unwrap());
        let folder = Folder::new();
        for credential in values(&unit, "LoadCredential") {
            let (id, path) = credential.split_once(':').unwrap();
            assert!(path.starts_with("/etc/authio-actions/credentials/"), "{credential}");
            let secret = match id {
                "database_url" => stack.database.url(name),
                "root_keys" => format!("k1:{ROOT_KEY}"),
                "smtp_url" => "smtp://127.0.0.1:1".to_owned(),
                "oidc_client_secret" => "hunter2".to_owned(),
                other => panic!("{name}: {other}"),
            };
            std::fs::write(folder.0.join(id), secret + "\n").unwrap();
        }
        let mut manager = Manager::at(&folder.0.join("notify"));
        let here = |text: &str| text.replace("%d", &folder.0.display().to_string()).replace("%H", "machine-7");
        let mut variables: Vec<(String, String)> = values(&unit, "Environment")
            .iter()
            .map(|variable| variable.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), here(value)))
            .collect();
        // Ports that nobody else has; and a watchdog that looks at once.
        let from_provider =
            ["ISSUER", "CLIENT_ID"].map(|key| (format!("ACTIONS_CONSOLE__OIDC__{key}"), "https://login.example".to_owned()));
        variables.extend(from_provider.into_iter().filter(|_| name == "console"));
        for (name, value) in [
            ("NOTIFY_SOCKET", folder.0.join("notify").display().to_string()),
            ("WATCHDOG_USEC", "300000".to_owned()),
            ("ACTIONS_METRICS__LISTEN", scrape::free_address()),
            ("ACTIONS_CONSOLE__LISTEN", scrape::free_address()),
        ] {
            variables.push((name.to_owned(), value));
        }
        let command = values(&unit, "ExecStart").remove(0);
        let configuration = command.strip_prefix(&format!("/usr/bin/actions-{name} --config /etc/authio-actions/")).unwrap();
        assert_eq!(configuration, format!("{name}.toml"));
        let example = root().join(format!("config/{name}.example.toml"));
        let mut program = Program::start(&programs().join(format!("actions-{name}")), &["--config", example.to_str().unwrap()], &variables);
        for word in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
            manager.hears(word).await;
        }
        program.signal("TERM").await;
        manager.hears("STOPPING=1").await;
        assert!(program.ended().await.success(), "{name}");
    }
}

#[test]
fn the_fleet_is_stopped_no_sooner_than_it_has_drained() {
    for name in ["worker", "janitor", "console"] {
        let unit = std::fs::read_to_string(root().join(format!("ops/systemd/actions-{name}.service"))).unwrap();
        let seconds = |key: &str| values(&unit, key)[0].trim_end_matches('s').parse::<u64>().unwrap();
        // The longest timeout, the longest allowance that is usual, and the time to part from a database that is away.
        assert!(seconds("TimeoutStopSec") >= 5 + 1 + 10, "{name}");
        // A loop counts as late after 90 seconds; the watchdog may look sooner, because it hears until then.
        assert!(seconds("WatchdogSec") <= 90, "{name}");
        // A core holds keys and people's events.
        assert_eq!(values(&unit, "LimitCORE"), ["0"], "{name}");
        assert_eq!((values(&unit, "Type"), values(&unit, "DynamicUser")), (vec!["notify".to_owned()], vec!["yes".to_owned()]));
    }
}

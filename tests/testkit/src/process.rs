//! Real processes: started with a configuration, watched by what they log, ended by signals.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that runs; it is killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    log: watch::Receiver<String>,
    output: watch::Receiver<String>,
}

impl Program {
    /// Starts a program with nothing in its environment but `variables`.
    pub fn start(path: &Path, arguments: &[&str], variables: &[(String, String)]) -> Self {
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}; build it first", path.display()));
        let log = read(child.stderr.take().expect("piped"));
        let output = read(child.stdout.take().expect("piped"));
        Self { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), child, log, output }
    }

    /// Waits until the log holds `text`.
    pub async fn logged(&mut self, text: &str) {
        let found = matches!(tokio::time::timeout(PATIENCE, self.log.wait_for(|log| log.contains(text))).await, Ok(Ok(_)));
        assert!(found, "{} never logged {text:?}:\n{}", self.name, *self.log.borrow());
    }

    /// Waits until the log holds `text`; false where the program ends before, as one does that a supervisor would
    /// start again.
    pub async fn logs_before_it_ends(&mut self, text: &str) -> bool {
        tokio::select! {
            () = Self::holds(&mut self.log, text) => true,
            _ = self.child.wait() => false,
        }
    }

    async fn holds(log: &mut watch::Receiver<String>, text: &str) {
        if log.wait_for(|log| log.contains(text)).await.is_err() {
            std::future::pending().await // it closed its log: its end is near
        }
    }

    /// Waits until it printed a line with `text`; the line.
    pub async fn said(&mut self, text: &str) -> String {
        let found = tokio::time::timeout(PATIENCE, self.output.wait_for(|said| said.contains(text))).await;
        let said = found.unwrap_or_else(|_| panic!("{} never said {text:?}", self.name)).expect("it runs").clone();
        said.lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Sends a signal by its name, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().await.expect("kill runs");
        assert!(status.success(), "{} was gone before SIG{name}", self.name);
    }

    /// Ends it without warning, as a crash would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it was still there");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("{} does not end:\n{}", self.name, *self.log.borrow())).expect("its status")
    }

    /// Asks it to leave and waits until it has.
    pub async fn drained(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }
}

/// What comes out of a process, line by line.
fn read(from: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (sender, text) = watch::channel(String::new());
    let mut lines = BufReader::new(from).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    text
}

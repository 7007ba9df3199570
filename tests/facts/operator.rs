//! A person at `actionsctl`, for the facts about it.

use std::process::{Output, Stdio};

use authio_actions_testkit::stack::{ROOT_KEY, Stack};
use serde_json::Value;
use tokio::process::Command;

use crate::support::programs;

/// The password that all logins of the private server have.
pub fn password(stack: &Stack) -> String {
    stack.database.url("ops").split([':', '@']).nth(2).unwrap().to_owned()
}

/// A login made with these words after `create role … login`, and its URL.
pub async fn login(stack: &Stack, words: &str) -> (String, String) {
    let owner = stack.database.owner().await;
    let name = format!("operator_{}", uuid::Uuid::new_v4().simple());
    let sql = format!("create role {name} login password '{}' {words}", password(stack));
    sqlx::query(&sql).execute(&owner).await.unwrap();
    let url = stack.database.url("ops").replace("test_ops", &name);
    (name, url)
}

pub struct Operator {
    pub environment: Vec<(String, String)>,
}

impl Operator {
    /// Who may do what control planes and operators may.
    pub async fn of(stack: &Stack) -> Self {
        let (_, url) = login(stack, "in role actions_admin, actions_ops").await;
        Self::at(stack, &url)
    }

    /// With a login of one's own.
    pub fn at(stack: &Stack, url: &str) -> Self {
        Self { environment: stack.environment("ops", &[("ACTIONS_DATABASE__URL", url)]) }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, not yet started, away from any terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("actionsctl"));
        command.args(arguments).env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    /// The line of one check of the doctor: its result and what it says.
    pub async fn doctor(&self, check: &str) -> (String, String) {
        let output = self.run(&["doctor", "--json"]).await;
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let row = rows.as_array().unwrap().iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no {check}: {rows}"));
        (row["result"].as_str().unwrap().to_owned(), row["detail"].as_str().unwrap().to_owned())
    }
}

/// All that a program printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn derived(action: &str, version: i32) -> String {
    authio_actions::sign::RootKeys::parse(&format!("k1:{ROOT_KEY}")).unwrap().derive("k1", action, version).unwrap().reveal().to_owned()
}

//! Runs a command beside a whole fleet, for tests in other languages. Started by `ops/with-fleet`.
//!
//! The command finds `DATABASE_URL`, a login of auth-core, and the project `acme` with an action for each of three
//! triggers, whose endpoint does as the event's `metadata.plan` says: `deny`, `fail`, `hang`, `number`, `trace` (its trace_parent
//! as a claim), `large` (a result that no notification has room for), or anything else for a plain allow.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use authio_actions_testkit::endpoint::{Received, Reply};
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};

/// Triggers, how long their endpoint may take, and what decides where it fails.
const ACTIONS: [(&str, u32, &str); 3] =
    [("pre_token_mint", 2_000, "open"), ("pre_authenticate", 500, "closed"), ("post_register", 500, "open")];
/// Tests let endpoints fail more often than an action would survive.
const NO_KILLS: (&str, &str) = ("ACTIONS_KILL_SWITCH__MIN_SAMPLES", "100000");

#[tokio::main]
#[allow(clippy::expect_used, clippy::print_stderr, reason = "a tool for tests stops at the first surprise")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        eprintln!("with-fleet: no command; write it behind: ops/with-fleet COMMAND…");
        return ExitCode::from(2);
    };
    let programs = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)).expect("the binaries");
    let stack = Stack::start(&programs, answer).await;
    stack.project("acme").await;
    for (trigger, timeout_ms, fail_mode) in ACTIONS {
        let settings = format!("timeout_ms => {timeout_ms}, fail_mode => '{fail_mode}'");
        stack.action("acme", trigger, &stack.endpoint.url("/"), &settings).await;
    }
    let (_worker, _janitor) = (stack.worker(&[]).await, stack.janitor(&[NO_KILLS]).await);
    let status = tokio::process::Command::new(command).args(arguments).env("DATABASE_URL", stack.database.url("core")).status().await;
    ExitCode::from(u8::try_from(status.expect("the command starts").code().unwrap_or(1)).unwrap_or(1))
}

async fn answer(request: Received) -> Reply {
    let event: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match event["metadata"]["plan"].as_str().unwrap_or_default() {
        "deny" => Reply::json(r#"{"decision":"deny","deny_code":"planned","deny_reason":"by the event"}"#),
        "fail" => Reply::with_status(503, ""),
        "hang" => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Reply::json("{}")
        }
        // A number just as it was written.
        "number" => Reply::json(format!(r#"{{"override_claims":{{"n":{}}}}}"#, event["metadata"]["text"].as_str().unwrap_or("0"))),
        "trace" => Reply::json(json!({"override_claims": {"trace": request.header("traceparent")}}).to_string()),
        "large" => Reply::json(json!({"override_claims": {"text": "x".repeat(9_000)}}).to_string()),
        _ => Reply::json(json!({"override_claims": {"n": event["metadata"]["n"]}}).to_string()),
    }
}

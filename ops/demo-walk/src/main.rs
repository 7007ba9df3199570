//! The demo: one user walks through all six triggers while you watch.
//!
//! Started by `ops/demo`, which brings the private PostgreSQL and removes it afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a demo stops at the first surprise")]

mod auth_core;
mod endpoint;
mod measure;
mod screen;
mod trying;
mod walk;

use std::path::PathBuf;

use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::mail_server::MailServer;
use authio_actions_testkit::stack::Stack;

use screen::Screen;

/// The kill-switch looks often, so that nobody waits for it here.
const JANITOR: &[(&str, &str)] = &[
    ("ACTIONS_KILL_SWITCH__TICK_MS", "200"),
    ("ACTIONS_SMTP__FROM", "Authio <no-reply@authio.example>"),
    ("ACTIONS_DASHBOARD__URL", "https://dashboard.authio.example"),
    ("ACTIONS_LOG__FILTER", "info"),
];
const WORKER: &[(&str, &str)] = &[("ACTIONS_LOG__FILTER", "info")];

#[tokio::main]
async fn main() {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let screen = Screen::new();
    screen.chapter("authio-actions: a customer's endpoint decides while a person waits");
    screen.step("Starting everything on this machine, on loopback");
    let programs = std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from)).expect("the directory of the binaries");
    let stack = Stack::start(&programs, endpoint::answer).await;
    let mut workers = [stack.worker(WORKER).await, stack.worker(WORKER).await];
    let mail_server = MailServer::start(&Authority::default()).await;
    let mail_url = mail_server.url(false);
    let mut janitor = stack.janitor(&[JANITOR, &[("ACTIONS_SMTP__URL", &mail_url)]].concat()).await;
    screen.fact("PostgreSQL", "private, empty, migrated; removed at the end");
    screen.fact("fleet", "2 workers and a janitor, real processes");
    screen.fact("endpoint", &format!("{} (TLS, certificate made just now)", stack.endpoint.url("/")));

    walk::run(&stack, &screen, &mail_server).await;
    trying::run(&stack, &screen).await;
    measure::run(&stack, &screen).await;

    if keep {
        let (mut console, _) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local"), ("ACTIONS_LOG__FILTER", "info")]).await;
        let link = console.said("Open the console").await;
        connect(&stack, &screen, link.rsplit(' ').next().unwrap_or_default());
        tokio::signal::ctrl_c().await.expect("a signal");
        assert!(console.drained().await.success(), "the console did not leave in order:\n{}", console.log());
    }
    screen.step("Leaving: the workers drain, the janitor gives up its lead");
    for program in workers.iter_mut().chain([&mut janitor]) {
        assert!(program.drained().await.success(), "a program did not leave in order:\n{}", program.log());
    }
    screen.fact("done", &format!("in {:.1} s; nothing is left behind", screen.elapsed().as_secs_f64()));
}

/// How to look around in a stack that stays.
fn connect(stack: &Stack, screen: &Screen, link: &str) {
    screen.chapter("The stack stays up until you press Ctrl-C");
    screen.say("The console, with a link that opens once:");
    screen.copy(link);
    for (role, what) in [("core", "as auth-core"), ("admin", "as control plane"), ("ops", "as operator")] {
        screen.say(&format!("{what}:"));
        screen.copy(&format!("psql '{}'", stack.database.url(role)));
    }
    screen.say("Try, as operator:");
    screen.copy("select trigger, status, duration_ms, error from actions.recent_invocations;");
}

//! High availability, to be watched and to be held to its promise.
//!
//! Started by `ops/ha`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stdout, reason = "a harness stops at the first surprise")]

mod cluster;
mod load;
mod rounds;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use authio_actions_testkit::browser::Browser;
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::process::Program;
use authio_actions_testkit::stack::Stack;
use clap::Parser;

use crate::cluster::Cluster;
use crate::load::Load;

/// Three PostgreSQL under Patroni, the whole product on top, and primaries that go, under load.
#[derive(Parser)]
struct Arguments {
    /// How many primaries go: by a switchover, by a crash of the server and with its whole node, in turn.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=50))]
    rounds: u64,
    /// Standbys may lag: what that loses is counted, and is no failure.
    #[arg(long)]
    asynchronous: bool,
}

/// One worker that is awake takes everything, and lets the others sleep. With so few calls at once it cannot.
const FEW: &str = "24";
/// How long an endpoint takes.
const CALL: Duration = Duration::from_millis(20);

/// Each project has a worker that takes its events first, so of several each worker is the first for some.
fn projects() -> impl Iterator<Item = String> + Clone {
    (1..=16).map(|n| format!("project_{n}"))
}

/// What runs on the cluster.
pub struct Site {
    pub stack: Stack,
    /// Comes in by the console's own link at first.
    pub browser: Browser,
    pub programs: Vec<Program>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    // Whoever is interrupted leaves no process behind: all of them go with what is dropped here.
    tokio::select! {
        status = all(&arguments) => status,
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        _ = terminated.recv() => ExitCode::from(143),
    }
}

async fn all(arguments: &Arguments) -> ExitCode {
    println!("Three nodes with PostgreSQL and Patroni, etcd, HAProxy before them. They start …");
    let mut cluster = Cluster::start(!arguments.asynchronous).await;
    let mut site = start(&cluster).await;
    println!(
        "Two workers, two janitors and the console: one of each over HAProxy, the others by\nthe list of hosts. 28 auth-cores report. The primary is {}; its standbys are {}.\n",
        cluster.primary_name().await,
        if arguments.asynchronous { "asynchronous" } else { "synchronous" }
    );
    let load = Load::start(&site.stack.database.url("core"), &site.stack.core).await;
    let rounds = rounds::run(&mut cluster, &mut site, &load, arguments.rounds).await;
    let seen = load.stop().await;
    let verdict = verdict::judge(&site, &rounds, &seen).await;
    verdict.print(arguments.asynchronous);
    ExitCode::from(u8::from(!verdict.holds(arguments.asynchronous)))
}

async fn start(cluster: &Cluster) -> Site {
    let programs = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)).expect("the binaries");
    let database = Database::create_on(&cluster.url(), &programs.join("actionsctl")).await;
    let stack = Stack::on(database, &programs, |_| async {
        tokio::time::sleep(CALL).await;
        Reply::json("{}")
    })
    .await;
    for project in projects() {
        stack.project(&project).await;
        stack.action(&project, "pre_register", &stack.endpoint.url("/"), "timeout_ms => 2000").await;
    }
    let by_hosts = |role: &str| {
        let url = stack.database.url(role).replace(&cluster.proxy(), &cluster.hosts());
        format!("{url}?target_session_attrs=read-write")
    };
    let (worker, janitor) = (by_hosts("worker"), by_hosts("janitor"));
    let fewer_lines = ("ACTIONS_LOG__FILTER", "warn,authio_actions=info");
    let few = [("ACTIONS_WORKER__MAX_IN_FLIGHT", FEW), ("ACTIONS_WORKER__MAX_IN_FLIGHT_PER_ACTION", FEW), fewer_lines];
    let (console, address) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local"), fewer_lines]).await;
    let mut all = vec![
        stack.worker(&few).await,
        stack.worker(&[&few[..], &[("ACTIONS_DATABASE__URL", worker.as_str())]].concat()).await,
        stack.janitor(&[fewer_lines]).await,
        stack.janitor(&[("ACTIONS_DATABASE__URL", janitor.as_str()), fewer_lines]).await,
        console,
    ];
    let link = all.last_mut().expect("the console").said("Open the console").await;
    let (_, token) = link.rsplit_once("/enter/").expect("a link");
    let mut browser = Browser::new(&address);
    assert_eq!(browser.get(&format!("/enter/{}", token.trim())).await.status, 303, "the console lets nobody in");
    Site { stack, browser, programs: all }
}

//! A primary that changes places, and one that dies: every program serves again at once, nothing is
//! sent twice, and what the database acknowledged is decided.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::line::Line;
use authio_actions_testkit::server::Pair;
use authio_actions_testkit::stack::Stack;
use serde_json::json;
use tokio::time::Instant;

use crate::operator::Operator;
use crate::support::{ask, programs, repeat};

/// How soon every program serves again, once the new primary answers: nine times of ten, because
/// other tests may keep the machine busy.
const SOON: Duration = Duration::from_secs(3);
/// What stays with a standby serves never.
const PATIENCE: Duration = Duration::from_secs(20);

/// How programs find the primary.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// By an address that moves.
    Address,
    /// By trying several hosts.
    Hosts,
}

struct Site {
    pair: Pair,
    line: Line,
    stack: Arc<Stack>,
    way: Way,
}

impl Site {
    async fn start(way: Way) -> Self {
        let pair = Pair::start().await;
        let line = Line::to(pair.primary().url()).await;
        let database = Database::create_on(pair.primary().url(), &programs().join("actionsctl")).await.over(&line);
        let stack = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
        stack.project("p").await;
        stack.action("p", "pre_register", &stack.endpoint.url("/"), "timeout_ms => 2000").await;
        Self { pair, line, stack: Arc::new(stack), way }
    }

    /// The URL of a role, as programs are given it.
    fn url(&self, role: &str) -> String {
        let url = self.stack.database.url(role);
        if self.way == Way::Address {
            return url;
        }
        let port = |url: &str| url::Url::parse(url).unwrap().port().unwrap();
        let hosts = [self.pair.standby(), self.pair.primary()].map(|server| format!("127.0.0.1:{}", port(server.url()))).join(",");
        let moving = format!("127.0.0.1:{}", port(&url));
        format!("{}?target_session_attrs=read-write", url.replace(&moving, &hosts))
    }

    /// Programs came by the address, which still leads to a server that takes no writes.
    async fn tried_in_vain(&self) {
        let before = self.line.count();
        repeat(async || self.way == Way::Hosts || self.line.count() > before + 20).await;
    }
}

/// Reports events one after the other for as long as it is told to, as a careful auth-core would:
/// what is acknowledged is on two servers. Returns the acknowledged invocations.
async fn report(stack: Arc<Stack>, goes_on: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut turns = tokio::time::interval(Duration::from_millis(20));
    while goes_on.load(Ordering::SeqCst) {
        turns.tick().await;
        let asked = ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}')", &[]);
        if let Ok(Ok(states)) = tokio::time::timeout(Duration::from_secs(2), asked).await {
            acknowledged.push(states[0].id().to_owned());
        }
    }
    acknowledged
}

/// Everything serves: auth-core gets answers from each worker, a janitor leads, an operator is answered.
async fn serves(site: &Site, client: &Client, operator: &Operator, workers: usize) {
    let answered_by: Mutex<HashSet<String>> = Mutex::default();
    let invoked = async {
        repeat(async || {
            let event = json!({});
            let asked = (0..4).map(|_| client.invoke("p", Trigger::PreRegister, &event));
            let answers = futures_util::future::join_all(asked).await;
            let ids: Vec<String> =
                answers.into_iter().flatten().filter(|a| a.outcome.status == Status::Ok).filter_map(|a| a.invocation_id).collect();
            let seen: Vec<String> =
                sqlx::query_scalar("select distinct worker from actions.recent_invocations where invocation_id = any($1)")
                    .bind(&ids)
                    .fetch_all(&site.stack.ops)
                    .await
                    .unwrap_or_default();
            let mut answered_by = answered_by.lock().unwrap();
            answered_by.extend(seen);
            answered_by.len() == workers
        })
        .await;
    };
    let led = repeat(async || {
        let leads = "select leader is not null from actions.fleet_health";
        sqlx::query_scalar(leads).fetch_one(&site.stack.ops).await.unwrap_or(false)
    });
    let operated = repeat(async || operator.run(&["fleet", "--json"]).await.status.success());
    tokio::join!(invoked, led, operated);
}

async fn survives(way: Way, switches: usize) {
    let mut site = Site::start(way).await;
    let urls: HashMap<&str, String> = ["core", "worker", "janitor", "ops"].into_iter().map(|role| (role, site.url(role))).collect();
    let by = |role: &str| [("ACTIONS_DATABASE__URL", urls[role].as_str()), ("ACTIONS_KILL_SWITCH__TICK_MS", "200")];
    let stack = Arc::clone(&site.stack);
    let _workers = [stack.worker(&by("worker")).await, stack.worker(&by("worker")).await];
    let _janitors = [stack.janitor(&by("janitor")).await, stack.janitor(&by("janitor")).await];
    let operator = Operator::at(&stack, &urls["ops"]);
    let client = Client::connect(&Options::new(&urls["core"])).await.unwrap();
    serves(&site, &client, &operator, 2).await;

    let goes_on = Arc::new(AtomicBool::new(true));
    let reporting = tokio::spawn(report(Arc::clone(&stack), Arc::clone(&goes_on)));
    let mut took = Vec::new();
    for n in 0..switches {
        if n % 2 == 0 {
            site.pair.step_down();
            site.tried_in_vain().await;
        } else {
            site.pair.kill();
        }
        site.pair.promote();
        let answers = Instant::now();
        site.line.lead_to(site.pair.primary().url());
        let served = tokio::time::timeout(PATIENCE, serves(&site, &client, &operator, 2)).await;
        assert!(served.is_ok(), "switch {n}: not everything serves after {PATIENCE:?}");
        took.push(answers.elapsed());
        site.pair.repair().await;
    }
    took.sort();
    assert!(took[switches * 9 / 10 - 1] < SOON, "{took:?}");
    goes_on.store(false, Ordering::SeqCst);
    let acknowledged = reporting.await.unwrap();
    assert!(acknowledged.len() > 20 * switches, "{}", acknowledged.len());

    let ended = "select count(*), count(distinct invocation_id), count(*) filter (where finished_at is null)
                 from actions.recent_invocations where invocation_id = any($1)";
    let all = i64::try_from(acknowledged.len()).unwrap();
    let decided = repeat(async || {
        let row: (i64, i64, i64) = sqlx::query_as(ended).bind(&acknowledged).fetch_one(&stack.ops).await.unwrap_or_default();
        assert!(row.0 <= all, "decided twice: {row:?} of {all}");
        row == (all, all, 0)
    });
    if tokio::time::timeout(Duration::from_secs(20), decided).await.is_err() {
        let row: (i64, i64, i64) = sqlx::query_as(ended).bind(&acknowledged).fetch_one(&stack.ops).await.unwrap();
        panic!("of {all} acknowledged events not each has one outcome; rows, ids, undecided: {row:?}");
    }
    let requests = stack.endpoint.requests();
    let sent: HashSet<String> = requests.iter().map(|request| request.json()["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent.len(), requests.len(), "an event was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_switches_of_an_address_that_moves_cost_three_seconds_each_and_no_event() {
    survives(Way::Address, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_switches_among_several_hosts_cost_three_seconds_each_and_no_event() {
    survives(Way::Hosts, 10).await;
}

//! What DNS answers, and what is dialled: counted at a real DNS server and a real endpoint.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::endpoint::{Endpoint, Reply};
use authio_actions_testkit::name_server::{Answer, NameServer, Question};
use authio_actions_testkit::process::Program;
use authio_actions_testkit::stack::Stack;
use sqlx::Row;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::support::{answering, enqueue, until};

const HERE: [u8; 4] = [127, 0, 0, 1];
const INSIDE: [u8; 4] = [10, 0, 0, 7];

fn addresses(all: &[[u8; 4]]) -> Vec<IpAddr> {
    all.iter().map(|address| IpAddr::from(*address)).collect()
}

struct Site {
    stack: Stack,
    names: NameServer,
    endpoint: Endpoint,
    _worker: Program,
}

/// A stack whose worker asks a DNS server of our own, and may call loopback but nothing inside.
async fn site(hosts: &[&str], answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Site {
    site_of(hosts, Reply::json("{}").and_header("connection", "close"), answer).await
}

/// The same with an endpoint that answers as it is told.
async fn site_of(hosts: &[&str], reply: Reply, answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Site {
    let names = NameServer::start(answer).await;
    let authority = Authority::default();
    let roots = std::env::temp_dir().join(format!("authio-actions-names-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let stack = answering(Reply::json("{}")).await;
    let endpoint = Endpoint::named(&authority, hosts, move |_| std::future::ready(reply.clone())).await;
    let worker = stack
        .worker(&[
            ("ACTIONS_EGRESS__RESOLVE", "{}"),
            ("ACTIONS_EGRESS__DNS_SERVERS", &names.setting()),
            ("ACTIONS_EGRESS__EXTRA_CA_FILE", roots.to_str().unwrap()),
        ])
        .await;
    for host in hosts {
        stack.project(host).await;
        stack.action(host, "pre_register", &endpoint.url_of(host, "/"), "timeout_ms => 2000").await;
    }
    std::fs::remove_file(roots).unwrap();
    Site { stack, names, endpoint, _worker: worker }
}

impl Site {
    /// One event for a host's action: status and error.
    async fn called(&self, host: &str) -> (String, String) {
        let id = enqueue(&self.stack.core, host, "pre_register", "{}").await.id().to_owned();
        until(
            &self.stack.ops,
            "ended",
            &format!("select finished_at is not null from actions.recent_invocations where invocation_id = '{id}'"),
        )
        .await;
        let row = sqlx::query("select status, coalesce(error, '') from actions.recent_invocations where invocation_id = $1")
            .bind(&id)
            .fetch_one(&self.stack.ops)
            .await
            .unwrap();
        (row.get(0), row.get(1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_inside_between_two_calls_is_dialled_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let site = site(&["moving.test"], move |question| match (question.is_v6, counter.load(Ordering::SeqCst)) {
        (true, _) => Answer::Addresses(Vec::new(), 0),
        (false, 0) => Answer::Addresses(addresses(&[HERE]), 0),
        (false, _) => Answer::Addresses(addresses(&[INSIDE]), 0),
    })
    .await;
    assert_eq!(site.called("moving.test").await.0, "ok");
    asked.store(1, Ordering::SeqCst);
    let (status, error) = site.called("moving.test").await;
    assert_eq!(status, "ssrf_blocked", "{error}");
    assert!(!error.contains("10.0.0.7"), "a customer is not told our addresses: {error}");
    assert_eq!((site.endpoint.requests().len(), site.endpoint.connections()), (1, 1));
    // Within a call nothing can move: it asks once, and dials what it judged.
    assert_eq!(site.names.asked().iter().filter(|question| !question.is_v6).count(), 2, "one question a call");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second_and_one_that_refuses_nothing() {
    let site = site(&["silent.test", "closed.test"], |question| match (question.is_v6, question.name.as_str()) {
        (false, "silent.test") => Answer::Addresses(addresses(&[[127, 0, 0, 2], HERE]), 60),
        (false, _) => Answer::Addresses(addresses(&[[127, 0, 0, 3], HERE]), 60),
        (true, _) => Answer::Addresses(Vec::new(), 60),
    })
    .await;
    // A listener that accepts nobody, with a full backlog: the kernel answers no more knocks.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind(([127, 0, 0, 2], site.endpoint.address.port()).into()).unwrap();
    let silent = silent.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(silent.local_addr().unwrap())).await {
        waiting.push(stream);
        assert!(waiting.len() < 64, "the backlog never fills");
    }
    let connect_ms = async |host| {
        let (status, error) = site.called(host).await;
        assert_eq!(status, "ok", "{host}: {error}");
        let phases = "select (phases->>'connect')::float8 from actions.recent_invocations where project_id = $1";
        sqlx::query_scalar::<_, f64>(phases).bind(host).fetch_one(&site.stack.ops).await.unwrap()
    };
    let (silent, closed) = (connect_ms("silent.test").await, connect_ms("closed.test").await);
    assert!((250.0..1000.0).contains(&silent), "connected after {silent} ms");
    assert!(closed < 250.0, "connected after {closed} ms");
    assert_eq!(site.endpoint.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_is_not_used_for_another_host() {
    // One server for both, as behind a content network: the certificate was checked for the first only.
    let hosts = ["one.test", "two.test"];
    let site = site_of(&hosts, Reply::json("{}"), |question| match question.is_v6 {
        true => Answer::Addresses(Vec::new(), 60),
        false => Answer::Addresses(addresses(&[HERE]), 60),
    })
    .await;
    for _ in 0..2 {
        assert_eq!(site.called("one.test").await.0, "ok");
    }
    assert_eq!(site.endpoint.connections(), 1, "kept");
    let moved = "select from actions.update_action(
      (select action_id from actions.actions where project_id = 'one.test'), json_build_object('endpoint_url', $1::text), 'test')";
    sqlx::query(moved).bind(site.endpoint.url_of("two.test", "/")).execute(&site.stack.admin).await.unwrap();
    assert_eq!(site.called("one.test").await.0, "ok");
    assert_eq!((site.endpoint.connections(), site.endpoint.requests()[2].header("host").starts_with("two.test")), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_forbidden_address_refuses_the_call_wherever_it_stands() {
    let hosts = ["first.test", "last.test", "six.test", "alias.test", "hidden.test"];
    let site = site(&hosts, |question| {
        let inside_v6: IpAddr = "fd00::7".parse().unwrap();
        let hidden_v4: IpAddr = "64:ff9b::a00:7".parse().unwrap();
        match question.name.as_str() {
            "first.test" => Answer::Addresses(addresses(&[INSIDE, HERE]), 60),
            "last.test" => Answer::Addresses(addresses(&[HERE, HERE, HERE, INSIDE]), 60),
            "six.test" => Answer::Addresses([addresses(&[HERE]), vec![inside_v6]].concat(), 60),
            "alias.test" => Answer::Alias("db.internal.test", addresses(&[INSIDE])),
            "hidden.test" => Answer::Addresses([addresses(&[HERE]), vec![hidden_v4]].concat(), 60),
            _ => Answer::Nobody,
        }
    })
    .await;
    for host in hosts {
        let (status, error) = site.called(host).await;
        assert_eq!(status, "ssrf_blocked", "{host}: {error}");
    }
    assert_eq!(site.endpoint.connections(), 0, "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_resolve_fail_as_the_endpoints_fault_inside_the_budget() {
    let hosts = ["nobody.test", "failure.test", "empty.test", "silent.test", "good.test"];
    let site = site(&hosts, |question| match question.name.as_str() {
        "nobody.test" => Answer::Nobody,
        "failure.test" => Answer::Failure,
        "silent.test" => Answer::Silence,
        "good.test" => Answer::Addresses(addresses(&[HERE]), 0),
        _ => Answer::Addresses(Vec::new(), 0),
    })
    .await;
    for host in ["nobody.test", "failure.test", "empty.test"] {
        let (status, error) = site.called(host).await;
        assert_eq!(status, "network_error", "{host}: {error}");
        assert!(error.starts_with("DNS: ") && error.contains(host), "{error}");
    }
    let (status, error) = site.called("silent.test").await;
    assert!(status == "timeout" || status == "network_error", "{status}: {error}");
    assert!(error.contains("DNS"), "{error}");
    for _ in 0..2 {
        assert_eq!(site.called("good.test").await.0, "ok");
    }
    let asked = site.names.asked();
    assert!(asked.iter().filter(|question| question.name == "good.test" && !question.is_v6).count() >= 2, "no time to live, no cache");
    assert!(asked.iter().all(|question| hosts.contains(&question.name.as_str())), "no search list: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_every_resolver_is_never_the_endpoints_fault() {
    let is_silent = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&is_silent);
    let hosts = ["one.test", "two.test"];
    let site = site(&hosts, move |question| match (switch.load(Ordering::SeqCst), question.is_v6) {
        (true, _) => Answer::Silence,
        (false, true) => Answer::Addresses(Vec::new(), 0),
        (false, false) => Answer::Addresses(addresses(&[HERE]), 0),
    })
    .await;
    let (status, error) = site.called("one.test").await;
    assert_eq!(status, "expired", "silent from the start: {error}");
    assert!(error.contains("no resolver answered this worker"), "{error}");
    is_silent.store(false, Ordering::SeqCst);
    for host in hosts {
        assert_eq!(site.called(host).await.0, "ok");
    }
    is_silent.store(true, Ordering::SeqCst);
    for host in hosts {
        let (status, error) = site.called(host).await;
        assert_eq!(status, "expired", "{host}, silent in the middle: {error}");
    }
    assert_eq!(site.endpoint.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_falls_silent_alone_is_its_owners_fault() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_silent);
    let site = site(&["falls.test", "stays.test"], move |question| match (question.name.as_str(), question.is_v6) {
        ("falls.test", _) if switch.load(Ordering::SeqCst) => Answer::Silence,
        (_, true) => Answer::Addresses(Vec::new(), 0),
        (_, false) => Answer::Addresses(addresses(&[HERE]), 0),
    })
    .await;
    for host in ["stays.test", "falls.test"] {
        assert_eq!(site.called(host).await.0, "ok");
    }
    is_silent.store(true, Ordering::SeqCst);
    // Nobody else calls: what shows that the resolvers answer is the worker's own control question.
    let (status, error) = site.called("falls.test").await;
    assert!(status == "timeout" || status == "network_error", "{status}: {error}");
    assert!(error.contains("DNS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_refuses_the_worker_is_never_the_endpoints_fault() {
    let site = site(&["one.test"], |_| Answer::Refused).await;
    let (status, error) = site.called("one.test").await;
    assert_eq!(status, "expired", "{error}");
    assert!(error.contains("refuse to answer this worker"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_address_that_comes_too_late_for_one_call_refuses_the_next() {
    let inside: IpAddr = "fd00::7".parse().unwrap();
    let (open, gate) = watch::channel(false);
    let asked_v6 = AtomicUsize::new(0);
    let site = site(&["late.test"], move |question| match question.is_v6 {
        // Answered once, without a time to live, and never again.
        true if asked_v6.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Addresses(vec![inside], 0).held(&gate),
        true => Answer::Silence,
        false => Answer::Addresses(addresses(&[HERE]), 0),
    })
    .await;
    assert_eq!(site.called("late.test").await.0, "ok", "nobody waits for the slower family");
    assert_eq!(site.endpoint.requests().len(), 1);
    open.send_replace(true);
    let refused = async { while site.called("late.test").await.0 != "ssrf_blocked" {} };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("the late address was never judged");
    let dialled = site.endpoint.connections();
    assert_eq!(site.called("late.test").await.0, "ssrf_blocked", "for as long as it is remembered");
    assert_eq!(site.endpoint.connections(), dialled);
}

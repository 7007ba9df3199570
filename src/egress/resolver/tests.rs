//! Lookups against a DNS server on loopback.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use authio_actions_testkit::name_server::{Answer as Said, NameServer, Question as Asked};
use tokio::sync::watch;

use super::*;
use crate::config::Config;

const HERE: [u8; 4] = [192, 0, 2, 1];
/// As long as most actions give their endpoint.
const BUDGET: Duration = Duration::from_millis(2000);

fn here(ttl: u32) -> Said {
    Said::Addresses(vec![IpAddr::from(HERE)], ttl)
}

fn of(servers: &str) -> Resolver {
    let variables = [("ACTIONS_EGRESS__DNS_SERVERS".to_owned(), servers.to_owned())];
    Resolver::new(&Config::load(None, variables.into_iter()).unwrap().egress)
}

async fn asking(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> (NameServer, Resolver) {
    let names = NameServer::start(answer).await;
    let resolver = of(&names.setting());
    (names, resolver)
}

async fn resolve(resolver: &Resolver, name: &str, budget: Duration) -> Result<Vec<IpAddr>, CallError> {
    resolver.resolve(name, Instant::now() + budget).await
}

async fn code(resolver: &Resolver, name: &str, budget: Duration) -> ErrorCode {
    resolve(resolver, name, budget).await.unwrap_err().code()
}

#[tokio::test]
async fn a_family_that_never_answers_costs_one_call_a_moment_and_the_next_ones_nothing() {
    let (_names, resolver) = asking(|asked| if asked.is_v6 { Said::Silence } else { here(0) }).await;
    let first = Instant::now();
    assert_eq!(resolve(&resolver, "half.test", BUDGET).await.unwrap(), [IpAddr::from(HERE)]);
    let took = first.elapsed();
    assert!((GRACE..BUDGET / 2).contains(&took), "the first took {took:?}");
    let next = Instant::now();
    for _ in 0..5 {
        assert_eq!(resolve(&resolver, "half.test", BUDGET).await.unwrap(), [IpAddr::from(HERE)]);
    }
    assert!(next.elapsed() < 5 * GRACE, "five more took {:?}", next.elapsed());
}

#[tokio::test]
async fn an_address_that_was_late_once_and_came_in_time_after_that_is_still_known_when_nothing_comes() {
    let slow: IpAddr = "fd00::7".parse().unwrap();
    let late = Arc::new(Late::default());
    let now = Instant::now();
    let question: Question = Box::pin(std::future::pending());
    Late::go_on(&late, "late.test", Family::V6, question, now);
    assert!(late.is_slow("late.test", Family::V6, now));
    late.came("late.test", Family::V6, &[slow], now);
    assert!(!late.is_slow("late.test", Family::V6, now));
    assert_eq!(late.remembered("late.test", Family::V6, now), [slow]);
    late.came("late.test", Family::V6, &[], now);
    assert_eq!(late.remembered("late.test", Family::V6, now), [] as [IpAddr; 0], "its newest answer is what counts");
}

#[tokio::test]
async fn an_address_that_comes_too_late_is_there_at_the_next_call_whatever_its_time_to_live() {
    let late: IpAddr = "fd00::7".parse().unwrap();
    let (open, gate) = watch::channel(false);
    let is_first = AtomicBool::new(true);
    let (_names, resolver) = asking(move |asked| match asked.is_v6 {
        // Only the first question is ever answered.
        true if asked.name == "late.test" && is_first.swap(false, Ordering::SeqCst) => Said::Addresses(vec![late], 0).held(&gate),
        true => Said::Silence,
        false => here(0),
    })
    .await;
    assert_eq!(resolve(&resolver, "late.test", BUDGET).await.unwrap(), [IpAddr::from(HERE)]);
    open.send_replace(true);
    let late_ones = || resolver.dns.as_ref().unwrap().late.remembered("late.test", Family::V6, Instant::now());
    let arrives = async {
        while late_ones().is_empty() {
            resolve(&resolver, "another.test", BUDGET).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), arrives).await.expect("the late address is lost");
    for _ in 0..3 {
        assert_eq!(resolve(&resolver, "late.test", BUDGET).await.unwrap(), [IpAddr::from(HERE), late]);
    }
}

#[tokio::test]
async fn one_family_without_records_waits_for_the_other_longer_than_for_company() {
    let (open, gate) = watch::channel(false);
    let (names, resolver) = asking(move |asked| match (asked.name.as_str(), asked.is_v6) {
        ("slow.test", true) => Said::Addresses(Vec::new(), 0),
        ("slow.test", false) => here(0).held(&gate),
        (_, true) => Said::Silence,
        (_, false) => here(0),
    })
    .await;
    let resolver = Arc::new(resolver);
    let asks = Arc::clone(&resolver);
    let waiting = tokio::spawn(async move { resolve(&asks, "slow.test", BUDGET).await });
    names.asked_for(2).await;
    // Each of these takes as long as one family waits for the other.
    for name in ["half.test", "other-half.test"] {
        resolve(&resolver, name, BUDGET).await.unwrap();
    }
    open.send_replace(true);
    assert_eq!(waiting.await.unwrap().unwrap(), [IpAddr::from(HERE)]);
}

#[tokio::test]
async fn a_silent_name_is_its_owners_fault_while_the_resolvers_answer_for_others() {
    let (names, resolver) = asking(|asked| if asked.name == "silent.test" { Said::Silence } else { here(60) }).await;
    // Nothing was answered yet: the control question is for the root.
    assert_eq!(code(&resolver, "silent.test", BUDGET / 4).await, ErrorCode::TimeoutDns);
    assert!(names.asked().iter().any(|asked| asked.name.is_empty()), "{:?}", names.asked());
    // From now on it is for a name that was answered. What the cache answers proves nothing, and is asked for.
    resolve(&resolver, "good.test", BUDGET).await.unwrap();
    for _ in 0..2 {
        let before = names.asked().len();
        assert_eq!(code(&resolver, "silent.test", BUDGET / 4).await, ErrorCode::TimeoutDns);
        let asked = names.asked().split_off(before);
        assert_eq!(asked.iter().filter(|asked| asked.name == "good.test").count(), 1, "one control question: {asked:?}");
        assert!(asked.iter().all(|asked| !asked.name.is_empty()), "{asked:?}");
    }
}

#[tokio::test]
async fn a_name_that_falls_silent_is_no_control_of_its_own() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_silent);
    let (_names, resolver) = asking(move |asked| match asked.name.as_str() {
        "falls.test" | "" if switch.load(Ordering::SeqCst) => Said::Silence,
        _ => here(0),
    })
    .await;
    for name in ["stays.test", "falls.test"] {
        resolve(&resolver, name, BUDGET).await.unwrap();
    }
    is_silent.store(true, Ordering::SeqCst);
    assert_eq!(code(&resolver, "falls.test", BUDGET / 2).await, ErrorCode::TimeoutDns);
}

#[tokio::test]
async fn resolvers_that_fall_silent_are_ours_and_a_cached_answer_proves_nothing() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_silent);
    let (names, resolver) = asking(move |_| if switch.load(Ordering::SeqCst) { Said::Silence } else { here(60) }).await;
    for name in ["one.test", "two.test"] {
        resolve(&resolver, name, BUDGET).await.unwrap();
    }
    is_silent.store(true, Ordering::SeqCst);
    let (resolver, before) = (Arc::new(resolver), names.asked().len());
    let asks = Arc::clone(&resolver);
    let waiting = tokio::spawn(async move { resolve(&asks, "three.test", BUDGET / 2).await });
    names.asked_for(before + 2).await;
    assert!(resolve(&resolver, "one.test", BUDGET).await.is_ok(), "from the cache");
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::ResolverSilent);
    assert!(matches!(error, CallError::Ours { .. }) && error.to_string().contains("not even for another name"), "{error}");
}

#[tokio::test]
async fn what_the_resolvers_say_of_a_name_has_a_word_for_each() {
    let (_names, resolver) = asking(|asked| match asked.name.as_str() {
        "nobody.test" => Said::Nobody,
        "failure.test" => Said::Failure,
        "empty.test" => Said::Addresses(Vec::new(), 0),
        _ => Said::Refused,
    })
    .await;
    for (name, expected, is_ours) in [
        ("nobody.test", ErrorCode::DnsNoSuchName, false),
        ("failure.test", ErrorCode::DnsFailure, false),
        ("empty.test", ErrorCode::DnsNoAddress, false),
        ("a b.test", ErrorCode::DnsInvalidName, false),
        ("other.test", ErrorCode::ResolverRefused, true),
    ] {
        let error = resolve(&resolver, name, BUDGET).await.unwrap_err();
        assert_eq!((error.code(), matches!(error, CallError::Ours { .. })), (expected, is_ours), "{name}: {error}");
    }
}

#[tokio::test]
async fn one_answered_control_question_serves_all_who_wait_until_their_end() {
    let (names, resolver) = asking(|asked| if asked.name == "good.test" { here(0) } else { Said::Silence }).await;
    resolve(&resolver, "good.test", BUDGET).await.unwrap();
    let before = names.asked().len();
    let resolver = Arc::new(resolver);
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { code(&resolver, &format!("silent{n}.test"), BUDGET).await })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), ErrorCode::TimeoutDns);
    }
    let asked = names.asked().split_off(before);
    assert_eq!(asked.iter().filter(|asked| asked.name == "good.test").count(), 1, "{asked:?}");
}

#[test]
fn without_a_resolver_fixed_names_are_answered_and_others_are_our_fault() {
    let mut resolver = of(r#"["127.0.0.1:9"]"#);
    resolver.fixed.insert("fixed.test".to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
    let missing = ConfigError { key: "egress.dns_servers".to_owned(), given: "empty".to_owned(), accepted: String::new() };
    resolver.dns = Err(missing);
    assert_eq!(resolver.check().unwrap_err().key, "egress.dns_servers");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(resolve(&resolver, "fixed.test", BUDGET)).is_ok());
    assert_eq!(runtime.block_on(code(&resolver, "other.test", BUDGET)), ErrorCode::NoResolver);
}

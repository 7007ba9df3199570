//! Alert and recording rules, and dashboards: what they name exists. That alerts fire is tested by `promtool test rules`.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use authio_actions::telemetry::Metrics;
use authio_actions_testkit::endpoint::Reply;
use serde_json::Value;

use crate::support::{answering, invoke};

fn read(name: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn rules() -> String {
    read("ops/prometheus/rules.yml") + &read("ops/prometheus/alerts.yml")
}

/// Words of `text` that begin with `start` and go on with letters, digits and `_`.
fn words(text: &str, start: &str) -> BTreeSet<String> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(ends).filter(|word| word.starts_with(start)).map(str::to_owned).collect()
}

/// Holds each metric that `text` names to those that a program prints, of which it names at least so many.
fn names_only_ours(text: &str, printed: &str, at_least: usize) {
    let kinds: HashMap<&str, &str> =
        printed.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split_once(' ')).collect();
    let is_known = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        kinds.contains_key(name) || of_histogram.is_some_and(|name| kinds.get(name) == Some(&"histogram"))
    };
    let named = words(text, "actions_");
    assert!(named.len() >= at_least, "{named:?}");
    let unknown: Vec<&String> = named.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are none of {:?}", kinds.keys());
}

#[test]
fn every_metric_that_a_rule_names_is_one_of_ours_and_so_is_every_bucket() {
    let printed = Metrics::default().encode();
    let rules = rules();
    names_only_ours(&rules, &printed, 12);
    let bounds: BTreeSet<&str> = rules.split("le=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!bounds.is_empty());
    for bound in bounds {
        assert!(printed.contains(&format!("le=\"{bound}\"")), "no histogram has a bucket of {bound}");
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_each_is_tested() {
    let anchors: BTreeSet<String> = read("ops/runbook.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(' ', "-").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect())
        .collect();
    let (alerts, tests) = (read("ops/prometheus/alerts.yml"), read("ops/prometheus/tests.yml"));
    let mut sections = BTreeSet::new();
    let mut seen = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let section =
            alert.split("ops/runbook.md#").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_else(|| panic!("{name}: no runbook"));
        assert!(anchors.contains(section), "{name}: the runbook has no section {section:?}; it has {anchors:?}");
        assert!(sections.insert(section), "{name}: its section {section:?} is another alert's, too");
        assert!(tests.matches(name).count() >= 2, "{name}: promtool sees it neither fire nor rest");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

/// Every value under `key`, at any depth.
fn values<'a>(json: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match json {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|value| values(value, key, found));
        }
        Value::Array(elements) => elements.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("ops/grafana/{name}.json"))).unwrap()
}

/// What Grafana puts in the place of its variables.
fn filled(query: &str, action: &str) -> String {
    let filter = query.replace("${action}", action).replace("$__rate_interval", "5m");
    match filter.split_once("$__timeFilter(") {
        Some((before, rest)) => {
            let (column, after) = rest.split_once(')').unwrap();
            format!("{before}{column} between now() - interval '3 hours' and now(){after}")
        }
        None => filter,
    }
}

#[test]
fn every_metric_of_the_dashboard_is_one_of_ours_and_each_of_ours_is_shown() {
    let dashboard = dashboard("fleet");
    let mut queries = Vec::new();
    values(&dashboard, "expr", &mut queries);
    let printed = Metrics::default().encode();
    let text = queries.join("\n");
    names_only_ours(&text, &printed, 25);
    let recorded: BTreeSet<String> =
        read("ops/prometheus/rules.yml").lines().filter_map(|line| Some(line.split_once("record: ")?.1.to_owned())).collect();
    for rule in queries.iter().filter(|query| query.starts_with("actions:")) {
        assert!(recorded.contains(*rule), "{rule} is not recorded");
    }
    // What a process knows of itself alone is nobody's picture.
    let ours = printed.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    let unseen: Vec<&str> =
        ours.filter(|metric| !text.contains(metric) && !["actions_build", "actions_loop_age_seconds"].contains(metric)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_runs_as_operators_may() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let _worker = stack.worker(&[]).await;
    invoke(&stack, "p", "pre_register").await;
    let dashboard = dashboard("history");
    let mut queries = Vec::new();
    values(&dashboard, "rawSql", &mut queries);
    values(&dashboard["templating"], "query", &mut queries);
    queries.retain(|query| query.starts_with("select "));
    assert!(queries.len() > 12, "{}", queries.len());
    for query in queries {
        let filled = filled(query, &action);
        let rows = sqlx::query(&filled).fetch_all(&stack.ops).await.unwrap_or_else(|error| panic!("{filled}: {error}"));
        assert!(!filled.contains("find_invocations(") || rows.len() == 1, "{filled}");
    }
}

//! Alert and recording rules: what they name exists. That they fire is tested by `promtool test rules`.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use authio_actions::telemetry::Metrics;

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

#[test]
fn every_metric_that_a_rule_names_is_one_of_ours_and_so_is_every_bucket() {
    let printed = Metrics::default().encode();
    let kinds: HashMap<&str, &str> =
        printed.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split_once(' ')).collect();
    let is_known = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        kinds.contains_key(name) || of_histogram.is_some_and(|name| kinds.get(name) == Some(&"histogram"))
    };
    let named = words(&rules(), "actions_");
    assert!(named.len() > 12, "{named:?}");
    let unknown: Vec<&String> = named.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are none of {:?}", kinds.keys());
    let rules = rules();
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
    let mut seen = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let section =
            alert.split("ops/runbook.md#").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_else(|| panic!("{name}: no runbook"));
        assert!(anchors.contains(section), "{name}: the runbook has no section {section:?}; it has {anchors:?}");
        assert!(tests.matches(name).count() >= 2, "{name}: promtool sees it neither fire nor rest");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

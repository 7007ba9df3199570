//! What was found beside what is wanted of it, for people and as JSON.

use std::path::Path;

use serde::Serialize;

use crate::report::line;

/// A figure and its bound.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    found: f64,
    unit: &'static str,
    /// At least, or at most.
    bound: &'static str,
    wanted: f64,
    holds: bool,
}

/// The findings of one command.
#[derive(Debug, Default, Serialize)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn at_least(&mut self, what: impl Into<String>, found: f64, wanted: f64, unit: &'static str) {
        self.add(Finding { what: what.into(), found, unit, bound: "at least", wanted, holds: found.is_finite() && found >= wanted });
    }

    pub fn at_most(&mut self, what: impl Into<String>, found: f64, wanted: f64, unit: &'static str) {
        self.add(Finding { what: what.into(), found, unit, bound: "at most", wanted, holds: found.is_finite() && found <= wanted });
    }

    fn add(&mut self, finding: Finding) {
        let Finding { what, found, unit, bound, wanted, holds } = &finding;
        let verdict = if *holds { "holds" } else { "MISSED" };
        line(&format!("  {what:<40}{:>10} {unit:<6}{bound} {:<8} {verdict}", number(*found), number(*wanted)));
        self.0.push(finding);
    }

    /// Writes `NAME.json`.
    pub fn save(&self, directory: &Path, name: &str) {
        std::fs::create_dir_all(directory).expect("a directory for the results");
        let json = serde_json::to_string_pretty(self).expect("JSON");
        std::fs::write(directory.join(format!("{name}.json")), json).expect("a file for the results");
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

//! The table for people, and the same as JSON and as a picture.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

/// One way under one load: medians over the repetitions, and their spread.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub way: &'static str,
    pub load: String,
    pub repetitions: usize,
    pub rate: f64,
    pub rate_min: f64,
    pub rate_max: f64,
    pub of_bare: Option<f64>,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
    /// CPU seconds for 1,000 invocations.
    pub postgres_cpu_s: f64,
    pub worker_cpu_s: f64,
    pub client_cpu_s: f64,
    pub endpoint_cpu_s: f64,
    pub wal_bytes: f64,
    pub commits: f64,
    pub dead_rows: f64,
    pub worker_mib: f64,
}

/// Prints a line; a reader that left early ends nothing.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The number in the middle.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// A rate in at most five characters.
fn short(rate: f64) -> String {
    if rate < 9_999.5 { format!("{rate:.0}") } else { format!("{:.1}k", rate / 1000.0) }
}

/// Speed in 80 columns, then cost in 80 columns.
pub fn table(rows: &[Row]) {
    line(&format!("{:<14}{:>11}{:>9}{:>16}{:>7}{:>8}{:>9}{:>6}", "way", "load", "/s", "min – max", "bare", "p50 ms", "p99 ms", "err"));
    for row in rows {
        let spread = format!("{} – {}", short(row.rate_min), short(row.rate_max));
        let share = row.of_bare.map(|share| format!("{share:.2}")).unwrap_or_default();
        line(&format!(
            "{:<14}{:>11}{:>9}{spread:>16}{share:>7}{:>8.2}{:>9.2}{:>6}",
            row.way,
            row.load,
            short(row.rate),
            row.p50_ms,
            row.p99_ms,
            short(row.errors as f64)
        ));
    }
    line("");
    line("CPU in ms, log in bytes, for one invocation; the worker's memory in MiB");
    line(&format!("{:<14}{:>12}{:>8}{:>8}{:>8}{:>9}{:>7}{:>9}", "way", "load", "server", "worker", "client", "WAL", "commit", "MiB"));
    for row in rows {
        line(&format!(
            "{:<14}{:>12}{:>8.3}{:>8.3}{:>8.3}{:>9.0}{:>7.2}{:>9.0}",
            row.way, row.load, row.postgres_cpu_s, row.worker_cpu_s, row.client_cpu_s, row.wal_bytes, row.commits, row.worker_mib
        ));
    }
}

/// Writes `NAME.json` and `NAME.svg`.
pub fn save(directory: &Path, name: &str, rows: &[Row]) {
    std::fs::create_dir_all(directory).expect("a directory for the results");
    let json = serde_json::to_string_pretty(rows).expect("JSON");
    std::fs::write(directory.join(format!("{name}.json")), json).expect("a file for the results");
    std::fs::write(directory.join(format!("{name}.svg")), picture(rows)).expect("a file for the picture");
}

/// Bars on a logarithmic scale, one for each way under each closed load.
fn picture(rows: &[Row]) -> String {
    const BAR: usize = 22;
    let bars: Vec<&Row> = rows.iter().filter(|row| row.load.contains("waiter")).collect();
    let most = bars.iter().map(|row| row.rate).fold(10.0, f64::max).log10();
    let height = 60 + bars.len() * BAR;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"800\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"16\">Round trips a second, logarithmic scale</text>\n"
    );
    for (n, row) in bars.iter().enumerate() {
        let y = 44 + n * BAR;
        let width = (row.rate.max(1.0).log10() / most * 480.0).max(1.0);
        let colour = if row.way.starts_with("fleet") { "#2563eb" } else { "#9ca3af" };
        svg.push_str(&format!(
            "<text x=\"10\" y=\"{}\">{} · {}</text><rect x=\"200\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{}\">{:.0}</text>\n",
            y + 13,
            row.way,
            row.load,
            206.0 + width,
            y + 13,
            row.rate
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

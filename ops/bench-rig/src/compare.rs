//! Every way under every load, side by side, in one run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authio_actions_testkit::database::Database;

use crate::cost::{Counters, Meter, memory_mib};
use crate::load::{self, Load, Way};
use crate::report::{self, Row, median};
use crate::stand::Stand;
use crate::ways::apalis::Apalis;
use crate::ways::bare::Bare;
use crate::ways::client::Fleet;
use crate::ways::plain::Plain;
use crate::ways::sql::Sql;

/// How much to measure.
pub struct Plan {
    pub loads: Vec<Load>,
    pub lasting: Duration,
    pub repetitions: usize,
    /// Only ways whose name starts with one of these.
    pub only: Option<Vec<String>>,
}

impl Plan {
    fn has(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| name.starts_with(wanted.as_str())))
    }
}

struct Sample {
    way: &'static str,
    load: Load,
    rate: f64,
    quantiles: [f64; 3],
    errors: u64,
    cost: Counters,
    worker_mib: f64,
}

pub async fn run(plan: &Plan, results: &Path) {
    let stand = Stand::start().await;
    let janitor = stand.janitor().await;
    let mut workers = [stand.worker(&[]).await];
    let meter = stand.meter(&workers).await;
    let bare = Arc::new(Bare::new(&stand.endpoint));
    let mut samples = Vec::new();
    for repetition in 1..=plan.repetitions {
        let mut bench = Bench { plan, meter: &meter, repetition, samples: &mut samples };
        if plan.has("bare") {
            bench.measure("bare call", &bare).await;
        }
        if plan.has("fleet, client") {
            bench.measure("fleet, client", &Arc::new(Fleet::connect(&stand.database.url("core")).await)).await;
        }
        if plan.has("fleet, SQL") {
            bench.measure("fleet, SQL", &Arc::new(Sql::connect(&stand.database.url("core")).await)).await;
        }
        if plan.has("plain queue") {
            let database = Database::create_empty().await;
            bench.measure("plain queue", &Arc::new(Plain::start(&database.owner_url(), Arc::clone(&bare)).await)).await;
        }
        if plan.has("apalis") {
            let database = Database::create_empty().await;
            bench.measure("apalis, no-op", &Arc::new(Apalis::start(&database.owner_url()).await)).await;
        }
    }
    let rows = summary(&samples);
    report::line("");
    report::table(&rows);
    report::save(results, "compare", &rows);
    stand.end(&mut workers).await;
    stand.end(&mut [janitor]).await;
}

struct Bench<'a> {
    plan: &'a Plan,
    meter: &'a Meter,
    repetition: usize,
    samples: &'a mut Vec<Sample>,
}

impl Bench<'_> {
    async fn measure<W: Way>(&mut self, name: &'static str, way: &Arc<W>) {
        for load in &self.plan.loads {
            let mut before = Counters::default();
            let measured = load::run(way, *load, self.plan.lasting, async || before = self.meter.read().await).await;
            let after = self.meter.read().await;
            report::line(&format!(
                "{}/{}  {name:<14}{load:>12} {:>8.0} /s  p50 {:>7.2}  p99 {:>7.2} ms{}",
                self.repetition,
                self.plan.repetitions,
                measured.rate(),
                measured.ms(0.5),
                measured.ms(0.99),
                measured.error.as_ref().map(|error| format!("  {} errors: {error}", measured.errors)).unwrap_or_default(),
            ));
            let per_call = |before: f64, after: f64| (after - before) / (measured.calls.max(1) as f64);
            let ms = |before: f64, after: f64| per_call(before, after) * 1000.0;
            self.samples.push(Sample {
                way: name,
                load: *load,
                rate: measured.rate(),
                quantiles: [measured.ms(0.5), measured.ms(0.9), measured.ms(0.99)],
                errors: measured.errors,
                cost: Counters {
                    postgres_s: ms(before.postgres_s, after.postgres_s),
                    worker_s: ms(before.worker_s, after.worker_s),
                    client_s: ms(before.client_s, after.client_s),
                    endpoint_s: ms(before.endpoint_s, after.endpoint_s),
                    wal_bytes: per_call(before.wal_bytes, after.wal_bytes),
                    commits: per_call(before.commits, after.commits),
                    dead_rows: after.dead_rows,
                },
                worker_mib: self.meter.workers.iter().map(|pid| memory_mib(*pid).0).sum(),
            });
        }
    }
}

fn summary(samples: &[Sample]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for sample in samples {
        let load = sample.load.to_string();
        if rows.iter().any(|row| row.way == sample.way && row.load == load) {
            continue;
        }
        let same: Vec<&Sample> = samples.iter().filter(|other| other.way == sample.way && other.load == sample.load).collect();
        let middle = |of: fn(&Sample) -> f64| median(&same.iter().map(|sample| of(sample)).collect::<Vec<_>>());
        let rates = same.iter().map(|sample| sample.rate);
        rows.push(Row {
            way: sample.way,
            load,
            repetitions: same.len(),
            rate: middle(|sample| sample.rate),
            rate_min: rates.clone().fold(f64::INFINITY, f64::min),
            rate_max: rates.fold(0.0, f64::max),
            of_bare: None,
            p50_ms: middle(|sample| sample.quantiles[0]),
            p90_ms: middle(|sample| sample.quantiles[1]),
            p99_ms: middle(|sample| sample.quantiles[2]),
            errors: same.iter().map(|sample| sample.errors).sum(),
            postgres_cpu_s: middle(|sample| sample.cost.postgres_s),
            worker_cpu_s: middle(|sample| sample.cost.worker_s),
            client_cpu_s: middle(|sample| sample.cost.client_s),
            endpoint_cpu_s: middle(|sample| sample.cost.endpoint_s),
            wal_bytes: middle(|sample| sample.cost.wal_bytes),
            commits: middle(|sample| sample.cost.commits),
            dead_rows: middle(|sample| sample.cost.dead_rows),
            worker_mib: middle(|sample| sample.worker_mib),
        });
    }
    let bare: Vec<(String, f64)> = rows.iter().filter(|row| row.way == "bare call").map(|row| (row.load.clone(), row.rate)).collect();
    for row in &mut rows {
        row.of_bare = bare.iter().find(|(load, _)| *load == row.load).map(|(_, rate)| row.rate / rate);
    }
    rows
}

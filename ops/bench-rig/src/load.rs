//! Two shapes of load: closed (so many waiters, each asks again at once) and open (so many
//! events a second, whatever the answers do).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// One way of carrying an event to the endpoint and its verdict back.
pub trait Way: Send + Sync + 'static {
    /// The round trip; an error is counted, and its text reported once.
    fn call(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many waiters.
    Closed(usize),
    /// So many events a second.
    Open(u32),
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(1) => write!(f, "1 waiter"),
            Self::Closed(waiters) => write!(f, "{waiters} waiters"),
            Self::Open(rate) => write!(f, "{rate} /s"),
        }
    }
}

/// What came of it.
pub struct Measured {
    pub calls: u64,
    pub errors: u64,
    pub error: Option<String>,
    pub took: Duration,
    pub latency: Histogram<u64>,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// A quantile of the latency in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000_000.0
    }
}

/// More would only measure the generator's own memory.
const MOST_IN_FLIGHT: u64 = 150_000;
/// Longer than any invocation may take; a queue that forgets an event must not stop the run.
const PATIENCE: Duration = Duration::from_secs(8);

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("valid bounds")
}

/// Warms up for a fifth of the time, then measures. `on_start` runs between the two.
pub async fn run<W: Way>(way: &Arc<W>, load: Load, lasting: Duration, on_start: impl AsyncFnOnce()) -> Measured {
    steady(way, load, lasting / 5).await;
    on_start().await;
    steady(way, load, lasting).await
}

/// Measures from the first call on.
pub async fn steady<W: Way>(way: &Arc<W>, load: Load, lasting: Duration) -> Measured {
    match load {
        Load::Closed(waiters) => closed(way, waiters, lasting).await,
        Load::Open(rate) => open(way, rate, lasting).await,
    }
}

async fn closed<W: Way>(way: &Arc<W>, waiters: usize, lasting: Duration) -> Measured {
    let started = Instant::now();
    let end = started + lasting;
    let mut running = JoinSet::new();
    for _ in 0..waiters {
        let way = Arc::clone(way);
        running.spawn(async move {
            let mut latency = histogram();
            let (mut errors, mut error) = (0, None);
            while Instant::now() < end {
                let asked = Instant::now();
                match in_time(&*way).await {
                    Ok(()) => latency.saturating_record(nanoseconds(asked.elapsed())),
                    Err(why) => {
                        errors += 1;
                        error = Some(why);
                    }
                }
            }
            (latency, errors, error)
        });
    }
    let mut measured = Measured { calls: 0, errors: 0, error: None, took: lasting, latency: histogram() };
    while let Some(done) = running.join_next().await {
        let (latency, errors, error) = done.expect("a waiter");
        measured.latency.add(latency).expect("same bounds");
        measured.errors += errors;
        measured.error = measured.error.or(error);
    }
    measured.calls = measured.latency.len();
    measured.took = started.elapsed();
    measured
}

/// Events come evenly, in groups of what falls into one millisecond, which is what timers
/// resolve. A latency counts from the moment at which the event was due to be sent, unless
/// the generator woke up later than its timer can help.
async fn open<W: Way>(way: &Arc<W>, rate: u32, lasting: Duration) -> Measured {
    let started = Instant::now();
    let (sender, mut results) = mpsc::unbounded_channel();
    // Below 100/s it ticks once an event: many generators must not keep the machine busy by themselves.
    let tick = if rate < 100 { Duration::from_secs(1) / rate.max(1) } else { Duration::from_millis(1) };
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0u64;
    let in_flight = Arc::new(AtomicU64::new(0));
    while started.elapsed() < lasting {
        ticks.tick().await;
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let asked = Instant::now();
        while sent < due {
            sent += 1;
            let (way, sender, in_flight) = (Arc::clone(way), sender.clone(), Arc::clone(&in_flight));
            if in_flight.fetch_add(1, Ordering::Relaxed) > MOST_IN_FLIGHT {
                in_flight.fetch_sub(1, Ordering::Relaxed);
                let _ = sender.send(Err(format!("more than {MOST_IN_FLIGHT} in flight")));
                continue;
            }
            tokio::spawn(async move {
                let result = in_time(&*way).await.map(|()| nanoseconds(asked.elapsed()));
                in_flight.fetch_sub(1, Ordering::Relaxed);
                let _ = sender.send(result); // its receiver outlives every call
            });
        }
    }
    drop(sender);
    let mut measured = Measured { calls: 0, errors: 0, error: None, took: lasting, latency: histogram() };
    while let Some(result) = results.recv().await {
        match result {
            Ok(took) => measured.latency.saturating_record(took),
            Err(why) => {
                measured.errors += 1;
                measured.error = Some(why);
            }
        }
    }
    measured.calls = measured.latency.len();
    measured.took = started.elapsed();
    measured
}

async fn in_time<W: Way>(way: &W) -> Result<(), String> {
    tokio::time::timeout(PATIENCE, way.call()).await.unwrap_or_else(|_| Err(format!("nothing within {} s", PATIENCE.as_secs())))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! When each loop of a program last came around, so that one that stands still is seen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Every loop comes around more often than this, or something is wrong: the longest statement
/// may take a minute.
const LATE: Duration = Duration::from_secs(90);

/// The last turn of each loop.
#[derive(Debug, Default)]
pub struct Liveness(Mutex<BTreeMap<&'static str, Instant>>);

impl Liveness {
    /// The loop of this name comes around.
    pub fn alive(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
    }

    /// Whether any loop is late, and a line each: its name and how many seconds ago it last came around.
    pub fn tell(&self) -> (bool, String) {
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = loops.values().any(|at| at.elapsed() > LATE);
        let mut text = if is_late { "a loop stands still\n" } else { "ok\n" }.to_owned();
        for (name, at) in loops.iter() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{name} {:.3}", at.elapsed().as_secs_f64());
        }
        (is_late, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_told() {
        let loops = Liveness::default();
        loops.alive("claim");
        loops.alive("write_back");
        tokio::time::advance(LATE).await;
        loops.alive("claim");
        assert_eq!(loops.tell(), (false, "ok\nclaim 0.000\nwrite_back 90.000\n".to_owned()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(loops.tell(), (true, "a loop stands still\nclaim 0.001\nwrite_back 90.001\n".to_owned()));
    }
}

//! The loops of a program by name: what ends too early is found out at once.
//!
//! Called by `fleet` and `janitor`. A loop that panicked ends alone, and the process would go on
//! and look healthy; so whoever owns the loops ends with the first of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;

/// Loops that run beside each other; those that are left are aborted when this is dropped.
#[derive(Default)]
pub struct Loops(Vec<(&'static str, JoinHandle<()>)>);

impl Loops {
    /// Starts a loop.
    pub fn start(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.0.push((name, tokio::spawn(work)));
    }

    /// Resolves with the name of the first loop that ends, whatever the reason.
    pub async fn any_ended(&mut self) -> &'static str {
        poll_fn(|cx| {
            for at in 0..self.0.len() {
                let (name, handle) = &mut self.0[at];
                if let Poll::Ready(result) = Pin::new(handle).poll(cx) {
                    let name = *name;
                    if let Err(error) = result {
                        tracing::error!(%error, name, "a loop panicked");
                    }
                    self.0.remove(at);
                    return Poll::Ready(name);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for the end of one loop; false where it panicked, or is not there.
    pub async fn ended(&mut self, name: &'static str) -> bool {
        let Some(at) = self.0.iter().position(|(known, _)| *known == name) else { return false };
        let ended = (&mut self.0[at].1).await.is_ok();
        self.0.remove(at);
        ended
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for (_, handle) in &self.0 {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panics_is_told_by_its_name() {
        let mut loops = Loops::default();
        loops.start("steady", std::future::pending());
        loops.start("broken", async { panic!("on purpose") });
        assert_eq!(loops.any_ended().await, "broken");
        assert!(!loops.ended("broken").await, "it is gone");
    }

    #[tokio::test]
    async fn a_loop_that_ends_in_order_is_waited_for() {
        let mut loops = Loops::default();
        loops.start("short", async {});
        assert!(loops.ended("short").await);
    }
}

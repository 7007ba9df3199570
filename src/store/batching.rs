//! Several into one statement: what a statement costs is mostly the statement, not its rows.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;

/// So often a loop that waits for the first is reminded that it is alive.
const IDLE: Duration = Duration::from_secs(5);

/// So often the others get their turn, as long as they bring more each time.
const TURNS: usize = 8;

/// Waits for the first, and takes with it what is there and what others who are ready to run
/// bring when they get their turn: no timer, so a single one goes its way at once. At most
/// `most`; empty when there will never be more. Calls `idle` now and then while nothing comes.
pub async fn next_batch<T>(from: &mut UnboundedReceiver<T>, most: usize, idle: impl Fn()) -> Vec<T> {
    let mut batch = Vec::new();
    let mut before = 0;
    while tokio::time::timeout(IDLE, from.recv_many(&mut batch, most)).await.is_err() {
        idle();
    }
    for _ in 0..TURNS {
        if batch.len() == before || batch.len() == most {
            break;
        }
        before = batch.len();
        yield_now().await;
        while batch.len() < most
            && let Ok(more) = from.try_recv()
        {
            batch.push(more);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn what_others_bring_in_their_turn_comes_along() {
        let (sender, mut receiver) = unbounded_channel();
        tokio::spawn(async move {
            for n in 0..5 {
                sender.send(n).unwrap();
                yield_now().await; // the next one in its next turn
            }
        });
        assert_eq!(next_batch(&mut receiver, 100, || {}).await, [0, 1, 2, 3, 4]);
        assert!(next_batch(&mut receiver, 100, || {}).await.is_empty(), "there will never be more");
    }

    #[tokio::test]
    async fn it_takes_no_more_than_it_may_and_waits_for_nobody() {
        let (sender, mut receiver) = unbounded_channel();
        (0..5).for_each(|n| sender.send(n).unwrap());
        assert_eq!(next_batch(&mut receiver, 3, || {}).await, [0, 1, 2]);
        assert_eq!(next_batch(&mut receiver, 3, || {}).await, [3, 4], "the sender is alive and silent");
    }
}

//! Gathers those whose patience ends, as enqueue gathers events: when the fleet is behind, there
//! are many at once, and a statement for each would leave it no time to catch up.

use tokio::sync::{mpsc, oneshot};

use crate::store::ask::{self, State};
use crate::store::gather::gather;
use crate::store::{Database, StoreError};

/// The most of one statement.
const BATCH: usize = 512;

/// Whom to end, and who wants to know how.
pub struct Leave {
    pub id: String,
    pub reply: oneshot::Sender<Result<State, StoreError>>,
}

pub async fn run(database: Database, mut leaving: mpsc::UnboundedReceiver<Leave>) {
    loop {
        let batch = gather(&mut leaving, BATCH).await;
        if batch.is_empty() {
            return;
        }
        let (ids, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|leave| (leave.id, leave.reply)).unzip();
        match ask::abandon(&database, &ids).await {
            Ok(states) if states.len() == ids.len() => {
                for (state, reply) in states.into_iter().zip(replies) {
                    let _ = reply.send(Ok(state)); // a waiter that left has no use for it
                }
            }
            // One that is not known refuses the statement, and must not cost the others.
            Ok(_) | Err(StoreError::Refused { .. }) if ids.len() > 1 => {
                for (id, reply) in ids.into_iter().zip(replies) {
                    let _ = reply.send(one(&database, id).await);
                }
            }
            result => {
                let why = result.err().map_or_else(|| "abandon answered with no row".to_owned(), |error| error.to_string());
                for reply in replies {
                    let _ = reply.send(Err(StoreError::Unreachable(why.clone())));
                }
            }
        }
    }
}

async fn one(database: &Database, id: String) -> Result<State, StoreError> {
    let missing = || StoreError::Unreachable("abandon answered with no row".to_owned());
    ask::abandon(database, &[id]).await?.pop().ok_or_else(missing)
}

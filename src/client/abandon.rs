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
        match abandon(&database, &ids).await {
            Ok(states) => {
                for (state, reply) in states.into_iter().zip(replies) {
                    let _ = reply.send(Ok(state)); // a waiter that left has no use for it
                }
            }
            // One that is not known refuses the statement, and must not cost the others.
            Err(error) if error.blames_request() && ids.len() > 1 => {
                for (id, reply) in ids.into_iter().zip(replies) {
                    let state = abandon(&database, &[id]).await.and_then(|states| states.into_iter().next().ok_or_else(too_few));
                    let _ = reply.send(state);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

async fn abandon(database: &Database, ids: &[String]) -> Result<Vec<State>, StoreError> {
    let states = ask::abandon(database, ids).await?;
    if states.len() == ids.len() { Ok(states) } else { Err(too_few()) }
}

fn too_few() -> StoreError {
    StoreError::Unreachable("abandon answered with too few rows".to_owned())
}

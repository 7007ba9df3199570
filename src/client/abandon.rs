//! Gathers those whose patience ends, as enqueue gathers events: when the fleet is behind, there
//! are many at once, and a statement for each would leave it no time to catch up.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use crate::store::auth_core::{self, State};
use crate::store::batching::next_batch;
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
        let batch = next_batch(&mut leaving, BATCH, || {}).await;
        if batch.is_empty() {
            return;
        }
        let (ids, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|leave| (leave.id, leave.reply)).unzip();
        let mut ended = auth_core::abandon(&database, &ids)
            .await
            .map(|states| states.into_iter().filter_map(|state| Some((state.invocation_id.clone()?, state))).collect::<HashMap<_, _>>());
        for (id, reply) in ids.into_iter().zip(replies) {
            let state = match &mut ended {
                // An unknown one has no row, and costs the others nothing.
                Ok(states) => states.remove(&id).ok_or_else(|| StoreError::Unreachable(format!("the database does not know {id}"))),
                Err(error) => Err(error.clone()),
            };
            let _ = reply.send(state); // a waiter that left has no use for it
        }
    }
}

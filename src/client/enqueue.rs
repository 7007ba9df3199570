//! Gathers concurrent events: one statement in flight, the next takes all that came meanwhile.
//!
//! A statement whose answer got lost is sent again: the same batch is the same invocations. Only a server that
//! crashed meanwhile refuses what it does not know, because a worker may have sent it before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::waiting::Waiting;
use crate::domain::Outcome;
use crate::store::auth_core::{self, Batch, Request, State};
use crate::store::batching::next_batch;
use crate::store::{Database, StoreError};

/// The most events of one statement.
const BATCH: usize = 128;
/// For so long an event is reported again while the database is away or refuses for the moment.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// An event to report, and who wants to know.
pub struct Ask {
    pub request: Request,
    pub reply: oneshot::Sender<Result<Queued, StoreError>>,
}

/// The row of enqueue, and where the outcome will arrive if it is not in it.
pub type Queued = (State, oneshot::Receiver<Outcome>);

pub async fn run(database: Database, mut asked: mpsc::UnboundedReceiver<Ask>, waiting: Arc<Waiting>) {
    let mut way = Way { database, epoch: None };
    loop {
        let batch = next_batch(&mut asked, BATCH, || {}).await;
        if batch.is_empty() {
            return;
        }
        // A result may be heard before its row is read: from here on such are kept.
        waiting.expect_early();
        let (requests, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|ask| (ask.request, ask.reply)).unzip();
        let batch = Batch::new(requests);
        match way.enqueue(&batch, waiting.reply_to()).await {
            Ok(states) => {
                for (state, reply) in states.into_iter().zip(replies) {
                    answer(&waiting, reply, Ok(state));
                }
            }
            // One wrong request refuses the statement, and must not cost the others.
            Err(error) if error.blames_request() && batch.requests.len() > 1 => {
                for (request, reply) in batch.requests.into_iter().zip(replies) {
                    let state = way.enqueue(&Batch::new(vec![request]), waiting.reply_to()).await;
                    answer(&waiting, reply, state.and_then(|states| states.into_iter().next().ok_or_else(no_row)));
                }
            }
            Err(error) => {
                for reply in replies {
                    answer(&waiting, reply, Err(error.clone()));
                }
            }
        }
        waiting.forget_early();
    }
}

/// The way to the database.
struct Way {
    database: Database,
    /// The server's epoch, learnt before anything was sent in it; unknown at first and after an error.
    epoch: Option<Uuid>,
}

impl Way {
    async fn enqueue(&mut self, batch: &Batch, reply_to: &str) -> Result<Vec<State>, StoreError> {
        let last = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        // Where an answer got lost, the epoch in which it was asked for.
        let mut lost = None;
        loop {
            match self.try_once(batch, reply_to, &mut lost).await {
                Ok(states) if states.len() == batch.requests.len() => return Ok(states),
                Ok(_) => return Err(no_row()),
                Err(error) => {
                    self.epoch = None;
                    if !error.is_passing() || Instant::now() + pause >= last {
                        return Err(error);
                    }
                    tracing::warn!(%error, events = batch.requests.len(), "could not enqueue; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn try_once(&mut self, batch: &Batch, reply_to: &str, lost: &mut Option<Uuid>) -> Result<Vec<State>, StoreError> {
        if let Some(epoch) = *lost {
            return auth_core::enqueue_again(&self.database, batch, reply_to, epoch).await;
        }
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => *self.epoch.insert(auth_core::server_epoch(&self.database).await?),
        };
        let states = auth_core::enqueue_many(&self.database, batch, reply_to).await;
        if matches!(states, Err(StoreError::Unanswered(_))) {
            *lost = Some(epoch);
        }
        states
    }
}

fn no_row() -> StoreError {
    StoreError::Unreachable("enqueue answered with too few rows".to_owned())
}

fn answer(waiting: &Waiting, reply: oneshot::Sender<Result<Queued, StoreError>>, state: Result<State, StoreError>) {
    let queued = state.map(|state| {
        let result = match (&state.invocation_id, &state.outcome) {
            (Some(id), None) => waiting.register(id),
            _ => oneshot::channel().1, // decided already: nobody will wait for it
        };
        (state, result)
    });
    // A waiter that left has no use for it.
    let _ = reply.send(queued);
}

//! Taking and keeping the lead, in a loop of its own: neither the first look of a new leader nor a
//! slow task costs the lease.
//!
//! The lead is a lease in the database. Its epoch fences whatever a leader writes, and changes only
//! with the holder: a leader that renews late, and whom nobody replaced, goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::wakeup::Wakeup;
use crate::store::{Database, leader};
use crate::telemetry::Metrics;

/// Whether this janitor leads, as far as the last renewal knew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    lead: Option<(i64, OffsetDateTime, Instant)>,
}

impl Standing {
    /// The epoch under which this janitor leads.
    pub fn epoch(&self) -> Option<i64> {
        self.lead.map(|(epoch, ..)| epoch)
    }

    /// PostgreSQL's time, carried on by the monotonic clock.
    pub fn now(&self) -> Option<OffsetDateTime> {
        self.lead.map(|(_, at, since)| at + since.elapsed())
    }
}

/// Who wants the lead, and for how long at a time.
pub struct Candidate {
    pub database: Database,
    pub janitor: String,
    pub lease: Duration,
    pub renew_every: Duration,
    pub mails: Arc<Wakeup>,
    pub metrics: Arc<Metrics>,
}

/// Takes the lead or keeps it, for as long as the janitor lives.
pub async fn keep(candidate: Candidate, standing: watch::Sender<Standing>) {
    let Candidate { database, janitor, lease, renew_every, mails, metrics } = candidate;
    let mut renewals = tokio::time::interval(renew_every);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed_at = Instant::now();
    loop {
        renewals.tick().await;
        metrics.liveness.alive("leadership");
        match leader::take_lead(&database, &janitor, lease).await {
            Ok((epoch, now, waiting)) => {
                renewed_at = Instant::now();
                metrics.database_up.set(1);
                metrics.leader.set(i64::from(epoch.is_some()));
                metrics.mail_outbox.set(waiting.waiting);
                if let Some(epoch) = epoch.filter(|_| waiting.is_due) {
                    mails.wake(epoch);
                }
                standing.send_replace(Standing { lead: epoch.map(|epoch| (epoch, now, renewed_at)) });
            }
            Err(error) => {
                metrics.database_up.set(i64::from(!error.is_unreachable()));
                tracing::warn!(%error, "the lead could not be renewed");
                // By now another may lead. What was begun under the lease is fenced by its epoch.
                if renewed_at.elapsed() > lease {
                    metrics.leader.set(0);
                    standing.send_replace(Standing::default());
                }
            }
        }
    }
}

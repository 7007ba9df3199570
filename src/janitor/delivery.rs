//! Delivers the outbox, beside the ticks: a slow mail server must not hold up a kill-switch.
//!
//! A mail is reported as sent after the mail server took it. A janitor that dies in between
//! leaves it to be sent again, with the same Message-ID; no mail is lost.

use std::sync::Arc;
use std::time::Duration;

use super::wakeup::Wakeup;
use crate::smtp::{Letter, MailError, Mailer};
use crate::store::outbox::{self, Failure, Waiting};
use crate::store::{Database, StoreError};
use crate::telemetry::Metrics;

/// The most mails taken at a time: together they must be sent within the minute they are held.
const BATCH: i32 = 2;
const PAUSE: Duration = Duration::from_secs(1);

/// Delivers whenever it is woken, for as long as the janitor lives.
pub async fn run(database: Database, mailer: Mailer, wakeup: Arc<Wakeup>, metrics: Arc<Metrics>) {
    loop {
        let turn = || metrics.liveness.alive("delivery");
        let epoch = wakeup.woken(turn).await;
        if let Err(error) = deliver(&database, &mailer, epoch, &turn).await {
            tracing::warn!(%error, "mails wait; the next tick tries again");
        }
    }
}

async fn deliver(database: &Database, mailer: &Mailer, epoch: i64, turn: &impl Fn()) -> Result<(), StoreError> {
    loop {
        let due = outbox::take(database, epoch, BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        for mail in due {
            turn();
            if outbox::hold(database, epoch, &mail).await? {
                send(database, mailer, &mail, turn).await?;
            }
        }
    }
}

async fn send(database: &Database, mailer: &Mailer, mail: &Waiting, turn: &impl Fn()) -> Result<(), StoreError> {
    let Waiting { id, action_id, attempts, .. } = mail;
    let message_id = format!("<{}.{id}.{action_id}@actions.authio>", mail.created_unix);
    let letter = Letter { message_id: &message_id, to: &mail.recipient, subject: &mail.subject, text: &mail.text, html: &mail.html };
    match mailer.send(&letter).await {
        Ok(()) => {
            tracing::info!(mail = id, action = action_id, attempts, "mail sent");
            // It must not be sent again because the database was away for a moment.
            while let Err(error) = outbox::sent(database, *id).await {
                tracing::warn!(mail = id, %error, "a mail was sent, which cannot be written down yet");
                tokio::time::sleep(PAUSE).await;
                turn();
            }
            Ok(())
        }
        Err(error) => {
            // Also what is refused for good is tried again for a while: a person may mend it.
            let failure = match &error {
                MailError::Refused(_) => Failure::Refused,
                MailError::Deferred(_) => Failure::Deferred,
                MailError::Unavailable(_) => Failure::Unavailable,
            };
            if outbox::failed(database, mail, failure, &error.to_string()).await? {
                tracing::error!(mail = id, action = action_id, attempts, %error, "a mail is given up: see actions.mails");
            } else {
                tracing::warn!(mail = id, action = action_id, attempts, %error, "mail not sent; it is tried again");
            }
            Ok(())
        }
    }
}

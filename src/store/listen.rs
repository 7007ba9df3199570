//! Hearing notifications on one connection a process, and noticing when it was deaf.

use std::time::Duration;

use super::connection::Connection;
use super::{Database, StoreError};

/// The channel on which the fleet is woken.
pub const QUEUE_CHANNEL: &str = "actions_queue";
/// After so much silence the connection must prove that it is alive: a half-open socket
/// stays silent forever.
const SILENCE: Duration = Duration::from_secs(5);
const PROOF: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What a listener heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A notification's payload.
    Payload(String),
    /// The connection was lost and is back: whatever was sent meanwhile was missed, so
    /// re-read everything that is outstanding.
    Reconnected,
    /// Nothing for a while: the connection is alive, or it cannot be opened for the moment.
    Silence,
}

/// One LISTEN connection.
pub struct Listener {
    database: Database,
    channel: String,
    connection: Option<Connection>,
    /// Before the next attempt to open one.
    pause: Duration,
}

impl Listener {
    /// Listens on `channel` from the first [`Listener::next`] on, which then says `Reconnected`.
    pub fn new(database: &Database, channel: &str) -> Self {
        Self { database: database.clone(), channel: channel.to_owned(), connection: None, pause: FIRST_PAUSE }
    }

    /// Listens on `channel`; an error means that the first connection failed.
    pub async fn connect(database: &Database, channel: &str) -> Result<Self, StoreError> {
        let connection = Some(open(database, channel).await?);
        Ok(Self { connection, ..Self::new(database, channel) })
    }

    /// The next thing heard, after 5 s at most. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            let Some(connection) = &mut self.connection else {
                return self.reconnect().await;
            };
            match tokio::time::timeout(SILENCE, connection.notification()).await {
                Ok(Ok(notification)) => return Heard::Payload(notification.payload().to_owned()),
                Ok(Err(error)) => {
                    self.database.replaced("lost");
                    tracing::warn!(%error, "the listening connection was lost");
                }
                Err(_) if matches!(tokio::time::timeout(PROOF, connection.check()).await, Ok(Ok(()))) => return Heard::Silence,
                Err(_) => {
                    self.database.replaced("unanswered");
                    tracing::warn!("the listening connection fell silent");
                }
            }
            self.connection = None;
        }
    }

    async fn reconnect(&mut self) -> Heard {
        match open(&self.database, &self.channel).await {
            Ok(connection) => {
                self.connection = Some(connection);
                self.pause = FIRST_PAUSE;
                Heard::Reconnected
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen; trying again");
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Heard::Silence
            }
        }
    }
}

async fn open(database: &Database, channel: &str) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(database.listen_settings()).await?;
    connection.batch(&format!("-- listen: for what is told here\nlisten \"{}\"", channel.replace('"', "\"\""))).await?;
    Ok(connection)
}

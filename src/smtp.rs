//! The only room that sends mail: SMTP with or without TLS, as `smtp.url` says.
//!
//! Called by the janitor, which delivers the outbox, and by `actionsctl doctor`. It decides
//! nothing about what is sent or when to try again.

use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::config::{self, ConfigError};

/// Longer than any mail server that is well takes for one mail.
const PATIENCE: Duration = Duration::from_secs(25);

/// A way to a mail server, and who writes.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// One mail for one person.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// The same for every attempt, so that a mail server or a reader can tell a repetition.
    pub message_id: &'a str,
    /// The address.
    pub to: &'a str,
    pub subject: &'a str,
    pub text: &'a str,
    pub html: &'a str,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The mail server will never take it.
    #[error("refused for good: {0}")]
    Refused(String),
    /// The mail server is away, or refuses for the moment.
    #[error("not now: {0}")]
    Later(String),
}

impl Mailer {
    /// Reads `smtp.url` and `smtp.from`; `None` where no mail server is configured. Nothing is
    /// dialled yet.
    pub fn new(config: &config::Smtp) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &config.url else { return Ok(None) };
        let wrong_url = |given: &str| ConfigError {
            key: "smtp.url".to_owned(),
            given: given.to_owned(), // never the URL itself: it may hold a password
            accepted: "smtps://user:password@host, smtp://user:password@host:587?tls=required (STARTTLS), or smtp://host".to_owned(),
        };
        let from = config.from.as_deref().unwrap_or_default();
        let from = from.parse::<Mailbox>().map_err(|error| ConfigError {
            key: "smtp.from".to_owned(),
            given: if from.is_empty() { "missing".to_owned() } else { format!("{from:?}: {error}") },
            accepted: "an address such as \"Authio <no-reply@authio.example>\"".to_owned(),
        })?;
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(url.reveal()).map_err(|_| wrong_url("no SMTP URL"))?.timeout(Some(PATIENCE));
        Ok(Some(Self { transport: transport.build(), from }))
    }

    /// Whether the mail server answers, and takes our credentials.
    pub async fn check(&self) -> Result<(), MailError> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(MailError::Later("the mail server does not answer as one".to_owned())),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Sends one mail.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<(), MailError> {
        let refused = |error: &dyn std::fmt::Display| MailError::Refused(error.to_string());
        let to: Mailbox = letter.to.parse().map_err(|error| refused(&error))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(letter.subject)
            .message_id(Some(letter.message_id.to_owned()))
            .multipart(MultiPart::alternative_plain_html(letter.text.to_owned(), letter.html.to_owned()))
            .map_err(|error| refused(&error))?;
        match tokio::time::timeout(PATIENCE, self.transport.send(message)).await {
            Ok(sent) => sent.map(|_| ()).map_err(|error| fault(&error)),
            Err(_) => Err(MailError::Later(format!("the mail server took more than {} s", PATIENCE.as_secs()))),
        }
    }
}

fn fault(error: &lettre::transport::smtp::Error) -> MailError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if error.is_permanent() { MailError::Refused(text) } else { MailError::Later(text) }
}

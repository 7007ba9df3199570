//! The only room that sends mail: SMTP with or without TLS, as `smtp.url` says.
//!
//! Called by the janitor, which delivers the outbox, and by `actionsctl doctor`. It decides
//! nothing about what is sent or when to try again.

pub mod mailbox;
mod words;

use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::config::{self, ConfigError};

/// Longer than any mail server that is well takes for one mail.
const PATIENCE: Duration = Duration::from_secs(25);
/// Replies that speak of credentials (RFC 4954), whatever was being sent.
const OF_CREDENTIALS: [u16; 4] = [530, 534, 535, 538];

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
    /// The mailbox.
    pub to: &'a str,
    pub subject: &'a str,
    pub text: &'a str,
    pub html: &'a str,
}

/// Why a mail was not sent, in one line that names no person and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The mail server will never take this mail, or it cannot be written.
    #[error("refused for good: {0}")]
    Refused(String),
    /// The mail server does not take this mail for the moment.
    #[error("refused for the moment: {0}")]
    Deferred(String),
    /// The mail server is away, or refuses us: that says nothing of the mail.
    #[error("the mail server does not serve us: {0}")]
    Unavailable(String),
}

/// Tells vacation notices and other robots not to answer (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
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
        let from = sender(config.from.as_deref().unwrap_or_default())?;
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(url.reveal()).map_err(|_| wrong_url("no SMTP URL"))?.timeout(Some(PATIENCE));
        Ok(Some(Self { transport: transport.build(), from }))
    }

    /// Whether the mail server answers, and takes our credentials.
    pub async fn check(&self) -> Result<(), MailError> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(MailError::Unavailable("it does not answer as a mail server".to_owned())),
            Err(error) => Err(MailError::Unavailable(what_was_said(&error, ""))),
        }
    }

    /// Sends one mail.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<(), MailError> {
        let message = self.write(letter)?;
        match tokio::time::timeout(PATIENCE, self.submit(message, letter.to)).await {
            Ok(sent) => sent,
            Err(_) => Err(MailError::Unavailable(format!("it took more than {} s", PATIENCE.as_secs()))),
        }
    }

    fn write(&self, letter: &Letter<'_>) -> Result<Message, MailError> {
        let to = mailbox::address(letter.to).map_err(|fault| MailError::Refused(format!("the recipient's mailbox {fault}")))?;
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .message_id(Some(letter.message_id.to_owned()))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(letter.text.to_owned(), letter.html.to_owned()))
            .map_err(|error| MailError::Refused(words::tidy(&error.to_string(), letter.to)))
    }

    /// A reply does not say whether it is about the mail or about us. Where a connection of its own
    /// gets past the greeting and the credentials, it was about the mail.
    async fn submit(&self, message: Message, to: &str) -> Result<(), MailError> {
        let Err(error) = self.transport.send(message).await else { return Ok(()) };
        let said = what_was_said(&error, to);
        if is_of_credentials(&error) || !(error.is_permanent() || error.is_transient() || error.is_client()) {
            return Err(MailError::Unavailable(said));
        }
        self.check().await?;
        Err(if error.is_transient() { MailError::Deferred(said) } else { MailError::Refused(said) })
    }
}

fn sender(from: &str) -> Result<Mailbox, ConfigError> {
    let wrong = |fault: &str| ConfigError {
        key: "smtp.from".to_owned(),
        given: if from.is_empty() { "missing".to_owned() } else { format!("{from:?}: {fault}") },
        accepted: "an address such as \"Authio <no-reply@authio.example>\"".to_owned(),
    };
    let Mailbox { name, email } = from.parse::<Mailbox>().map_err(|error| wrong(&error.to_string()))?;
    Ok(Mailbox::new(name, mailbox::address(email.as_ref()).map_err(wrong)?))
}

fn is_of_credentials(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| OF_CREDENTIALS.contains(&code.into()))
}

/// What the mail server said; of credentials only that it did not take them.
fn what_was_said(error: &lettre::transport::smtp::Error, to: &str) -> String {
    match error.status() {
        Some(code) if is_of_credentials(error) => format!("it does not take the credentials of smtp.url ({code})"),
        _ => words::tidy(&error.to_string(), to),
    }
}

//! A mail server on loopback that keeps what it is given: SMTP with STARTTLS and a password.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Authority;

/// `user` and `password`, as AUTH PLAIN sends them.
const CREDENTIALS: &str = "AHVzZXIAcGFzc3dvcmQ=";
/// Longer than anything that is waited for takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A mail as it arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The envelope's recipient.
    pub to: String,
    /// Headers and body.
    pub text: String,
    /// It came over TLS, after the right password.
    pub was_private: bool,
}

/// A running mail server.
pub struct MailServer {
    port: u16,
    is_down: Arc<AtomicBool>,
    refused: Arc<Mutex<BTreeMap<String, &'static str>>>,
    mails: watch::Receiver<Vec<Mail>>,
    refusals: watch::Receiver<usize>,
}

struct Shared {
    acceptor: TlsAcceptor,
    is_down: Arc<AtomicBool>,
    refused: Arc<Mutex<BTreeMap<String, &'static str>>>,
    mails: watch::Sender<Vec<Mail>>,
    refusals: watch::Sender<usize>,
}

impl MailServer {
    /// Starts one whose certificate for `localhost` is signed by `authority`.
    pub async fn start(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let is_down = Arc::new(AtomicBool::new(false));
        let (mails, kept) = watch::channel(Vec::new());
        let (refusals, counted) = watch::channel(0);
        let acceptor = TlsAcceptor::from(authority.server(&["localhost"]));
        let refused = Arc::default();
        let shared = Arc::new(Shared { acceptor, is_down: Arc::clone(&is_down), refused: Arc::clone(&refused), mails, refusals });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Self { port, is_down, refused, mails: kept, refusals: counted }
    }

    /// `smtp.url` with STARTTLS and the password, or without either.
    pub fn url(&self, private: bool) -> String {
        if private {
            format!("smtp://user:password@localhost:{}?tls=required", self.port)
        } else {
            format!("smtp://127.0.0.1:{}", self.port)
        }
    }

    /// While it is down it refuses every recipient for the moment.
    pub fn set_down(&self, down: bool) {
        self.is_down.store(down, Ordering::SeqCst);
    }

    /// From now on it answers this to a recipient.
    pub fn refuse(&self, recipient: &str, answer: &'static str) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(recipient.to_owned(), answer);
    }

    /// Waits until so many mails were taken; all of them.
    pub async fn taken(&self, count: usize) -> Vec<Mail> {
        let mut mails = self.mails.clone();
        let enough = tokio::time::timeout(PATIENCE, mails.wait_for(|mails| mails.len() >= count)).await;
        enough.unwrap_or_else(|_| panic!("fewer than {count} mails")).expect("the server lives").clone()
    }

    /// Waits until so many attempts were refused.
    pub async fn refused(&self, count: usize) {
        let mut refusals = self.refusals.clone();
        let enough = tokio::time::timeout(PATIENCE, refusals.wait_for(|refusals| *refusals >= count)).await;
        enough.unwrap_or_else(|_| panic!("fewer than {count} refusals")).expect("the server lives");
    }
}

impl Shared {
    fn refuses(&self, answer: &'static str) -> &'static str {
        self.refusals.send_modify(|count| *count += 1);
        answer
    }

    async fn serve(&self, stream: TcpStream) {
        let mut plain = BufReader::new(stream);
        if !say(&mut plain, "220 mail.test").await || !self.talk(&mut plain, false).await {
            return;
        }
        // The client asked for STARTTLS.
        if let Ok(stream) = self.acceptor.accept(plain.into_inner()).await {
            self.talk(&mut BufReader::new(stream), true).await;
        }
    }

    /// One conversation; true if it goes on under TLS.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut BufReader<S>, is_tls: bool) -> bool {
        let (mut to, mut is_known) = (String::new(), false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return false;
            }
            let line = line.trim_end();
            let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let answer = match word.as_str() {
                "EHLO" if is_tls => "250-mail.test\r\n250 AUTH PLAIN",
                "EHLO" => "250-mail.test\r\n250 STARTTLS",
                "STARTTLS" => {
                    say(stream, "220 go on").await;
                    return true;
                }
                "AUTH" => {
                    is_known = line.ends_with(CREDENTIALS);
                    if is_known { "235 welcome" } else { self.refuses("535 wrong password") }
                }
                "RCPT" if self.is_down.load(Ordering::SeqCst) => self.refuses("451 come back later"),
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    let answer = self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(&to).copied();
                    answer.map_or("250 fine", |answer| self.refuses(answer))
                }
                "DATA" => {
                    say(stream, "354 until a dot").await;
                    let text = data(stream).await;
                    let mail = Mail { to: to.clone(), text, was_private: is_tls && is_known };
                    self.mails.send_modify(|mails| mails.push(mail));
                    "250 taken"
                }
                "QUIT" => {
                    say(stream, "221 bye").await;
                    return false;
                }
                _ => "250 fine",
            };
            if !say(stream, answer).await {
                return false;
            }
        }
    }
}

async fn data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> String {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == ".\r\n" {
            return text;
        }
        text.push_str(&line);
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) -> bool {
    let stream = stream.get_mut();
    stream.write_all(format!("{line}\r\n").as_bytes()).await.is_ok() && stream.flush().await.is_ok()
}

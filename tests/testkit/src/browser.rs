//! A browser without a screen: follows no redirect, keeps cookies, and shows what was said.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FORM: &str = "application/x-www-form-urlencoded";

/// One person's browser.
#[derive(Clone)]
pub struct Browser {
    address: String,
    cookies: BTreeMap<String, String>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// The head, with names in small letters.
    pub head: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> &str {
        self.head.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The hidden field that a form of this page sends along.
    pub fn csrf(&self) -> String {
        let (_, after) = self.body.split_once("name=\"csrf_token\" value=\"").unwrap_or_else(|| panic!("no form: {}", self.body));
        after.split('"').next().unwrap_or_default().to_owned()
    }
}

impl Browser {
    /// A new one, for a server at `host:port`.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), cookies: BTreeMap::new() }
    }

    /// Opens a page by its path.
    pub async fn get(&mut self, path: &str) -> Seen {
        self.send("GET", path, FORM, "").await
    }

    /// Asks for the head of a page, as a preview of a link does.
    pub async fn head(&mut self, path: &str) -> Seen {
        self.send("HEAD", path, FORM, "").await
    }

    /// Sends something of another kind than a form.
    pub async fn post_as(&mut self, path: &str, content_type: &str, body: &str) -> Seen {
        self.send("POST", path, content_type, body).await
    }

    /// Sends a form.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", path, FORM, &body).await
    }

    /// Follows what a page tells while it is shown (server-sent events).
    pub async fn watch(&self, path: &str) -> Watch {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\n\r\n", self.address, cookies.join("; "));
        let mut stream = TcpStream::connect(&self.address).await.expect("the server listens");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        Watch(stream)
    }

    async fn send(&mut self, method: &str, path: &str, content_type: &str, body: &str) -> Seen {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncookie: {}\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            cookies.join("; "),
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.expect("the server listens");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).expect("a status line");
        let head: Vec<(String, String)> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        for (_, cookie) in head.iter().filter(|(name, _)| name == "set-cookie") {
            if let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Seen { status, head, body: body.to_owned() }
    }
}

/// What is told as it happens.
pub struct Watch(TcpStream);

impl Watch {
    /// Waits until it says a text.
    pub async fn says(&mut self, text: &str) {
        let mut said = String::new();
        let reading = async {
            while !said.contains(text) {
                let mut bytes = [0; 4096];
                let length = self.0.read(&mut bytes).await.expect("readable");
                assert!(length > 0, "it ended with: {said}");
                said.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), reading).await;
        in_time.unwrap_or_else(|_| panic!("it never said {text}: {said}"));
    }

    /// Waits until nothing more comes: the last part of a body in parts is empty.
    pub async fn ends(mut self) {
        self.says("0\r\n\r\n").await;
    }
}

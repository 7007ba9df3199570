//! A DNS server on loopback whose answers a closure makes.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Longer than anything that is waited for takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// What is asked: a name in lower case without a trailing dot, and whether for IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub is_v6: bool,
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Addresses, each valid for so many seconds. Those of the other kind are left out.
    Addresses(Vec<IpAddr>, u32),
    /// Another name, and its addresses.
    Alias(&'static str, Vec<IpAddr>),
    /// There is no such name.
    Nobody,
    /// The server failed.
    Failure,
    /// The server will not serve this client.
    Refused,
    /// Nothing is answered.
    Silence,
    /// The answer goes out once the gate is open.
    Held(watch::Receiver<bool>, Box<Answer>),
}

impl Answer {
    /// The same, behind a gate.
    #[must_use]
    pub fn held(self, gate: &watch::Receiver<bool>) -> Self {
        Self::Held(gate.clone(), Box::new(self))
    }
}

/// A running DNS server.
pub struct NameServer {
    port: u16,
    asked: watch::Receiver<Vec<Question>>,
}

impl NameServer {
    /// Starts one; `answer` is called for each question.
    pub async fn start(answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
        let port = socket.local_addr().expect("a bound port").port();
        let (questions, asked) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let Some((question, end)) = read(&packet[..length]) else { continue };
                questions.send_modify(|all| all.push(question.clone()));
                let (answer, packet, socket) = (answer(&question), packet[..end].to_vec(), Arc::clone(&socket));
                tokio::spawn(async move {
                    let answer = opened(answer).await;
                    if let Some(reply) = write(&packet, &question, &answer) {
                        let _ = socket.send_to(&reply, client).await; // a client that left needs no answer
                    }
                });
            }
        });
        Self { port, asked }
    }

    /// `egress.dns_servers`.
    pub fn setting(&self) -> String {
        format!(r#"["127.0.0.1:{}"]"#, self.port)
    }

    /// Waits until so many questions have been asked.
    pub async fn asked_for(&self, count: usize) {
        let mut asked = self.asked.clone();
        let arrived = tokio::time::timeout(PATIENCE, asked.wait_for(|all| all.len() >= count)).await.is_ok();
        assert!(arrived, "{count} questions were never asked");
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.borrow().clone()
    }
}

/// Waits for the gates of an answer, if it has any.
async fn opened(mut answer: Answer) -> Answer {
    while let Answer::Held(mut gate, inner) = answer {
        let _ = gate.wait_for(|open| *open).await; // whoever left holds nobody up
        answer = *inner;
    }
    answer
}

/// The question of a packet, and where it ends.
fn read(packet: &[u8]) -> Option<(Question, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    Some((Question { name: labels.join("."), is_v6: kind == AAAA }, at + 4))
}

fn write(asked: &[u8], question: &Question, answer: &Answer) -> Option<Vec<u8>> {
    let mut records = Vec::new();
    let mut count = 0_u16;
    let mut record = |owner: &[u8], kind: u16, ttl: u32, data: &[u8]| {
        records.extend_from_slice(owner);
        records.extend_from_slice(&kind.to_be_bytes());
        records.extend_from_slice(&[0, 1]);
        records.extend_from_slice(&ttl.to_be_bytes());
        records.extend_from_slice(&(data.len() as u16).to_be_bytes());
        records.extend_from_slice(data);
        count += 1;
    };
    let fitting = |addresses: &[IpAddr]| addresses.iter().copied().filter(|ip| ip.is_ipv6() == question.is_v6).collect::<Vec<_>>();
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
    };
    // The name of the question stands at byte 12.
    let same_name = [0xc0, 12];
    let code = match answer {
        Answer::Addresses(addresses, ttl) => {
            for (kind, data) in fitting(addresses).into_iter().map(bytes) {
                record(&same_name, kind, *ttl, &data);
            }
            0
        }
        Answer::Alias(name, addresses) => {
            let name = encoded(name);
            record(&same_name, CNAME, 0, &name);
            for (kind, data) in fitting(addresses).into_iter().map(bytes) {
                record(&name, kind, 0, &data);
            }
            0
        }
        Answer::Nobody => 3,
        Answer::Failure => 2,
        Answer::Refused => 5,
        Answer::Silence | Answer::Held(..) => return None,
    };
    let mut reply = asked.get(..2)?.to_vec();
    reply.extend_from_slice(&[0x81, 0x80 | code]);
    reply.extend_from_slice(&[0, 1]);
    reply.extend_from_slice(&count.to_be_bytes());
    reply.extend_from_slice(&[0, 0, 0, 0]);
    reply.extend_from_slice(asked.get(12..)?);
    reply.extend(records);
    Some(reply)
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

//! Connections that close at the worst moment: no event is ever sent twice.

use std::sync::{Arc, Mutex};

use authio_actions::client::{Client, Options};
use authio_actions::domain::Trigger;
use authio_actions_lab::certificate::Authority;
use authio_actions_lab::endpoint::{HOST, Reply};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::answering;

const ROUNDS: usize = 1000;
const AT_ONCE: usize = 10;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Answers the first request of each connection. Then, in turn: closes at once, closes when
/// the next request begins, closes when it has all of it, or answers one more.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, received: Arc<Mutex<Vec<String>>>) {
    let mut connections = 0_usize;
    while let Ok((stream, _)) = listener.accept().await {
        connections += 1;
        let (acceptor, received, mood) = (acceptor.clone(), Arc::clone(&received), connections % 4);
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let first = request(&mut stream).await?;
            note(&received, &first);
            stream.write_all(ANSWER).await?;
            stream.flush().await?;
            match mood {
                0 => {}
                1 => {
                    let mut begun = [0; 16];
                    if stream.read(&mut begun).await? > 0 {
                        // The rest of it may be on its way: it arrived, as far as anybody knows.
                        let rest = request(&mut stream).await?;
                        note(&received, &[begun.to_vec(), rest].concat());
                    }
                }
                _ => {
                    let second = request(&mut stream).await?;
                    note(&received, &second);
                    if mood == 3 {
                        stream.write_all(ANSWER).await?;
                        stream.flush().await?;
                    }
                }
            }
            stream.shutdown().await
        });
    }
}

/// One request, to the end of its body.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"}") {
        if stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(bytes)
}

fn note(received: &Mutex<Vec<String>>, request: &[u8]) {
    let text = String::from_utf8_lossy(request).into_owned();
    if let Some((_, rest)) = text.split_once("authio-event-id: ") {
        received.lock().unwrap().push(rest.chars().take(30).collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_closes_at_the_worst_moment_never_brings_an_event_twice() {
    let authority = Authority::default();
    let roots = std::env::temp_dir().join(format!("authio-actions-keep-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(serve(listener, TlsAcceptor::from(authority.server(&[HOST])), Arc::clone(&received)));
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[("ACTIONS_EGRESS__EXTRA_CA_FILE", roots.to_str().unwrap())]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &format!("https://{HOST}:{port}/"), "timeout_ms => 5000").await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let rounds: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for _ in 0..ROUNDS / AT_ONCE {
                    statuses.push(client.invoke("p", Trigger::PreRegister, &json!({"user": {}})).await.unwrap().outcome.status.to_string());
                }
                statuses
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for round in rounds {
        statuses.extend(round.await.unwrap());
    }
    let count = |status: &str| statuses.iter().filter(|known| *known == status).count();
    assert_eq!(count("ok") + count("network_error"), ROUNDS, "{statuses:?}");
    assert!(count("ok") > ROUNDS / 3 && count("network_error") > ROUNDS / 50, "both happened: {} ok", count("ok"));
    let mut events = received.lock().unwrap().clone();
    let arrived = events.len();
    events.sort();
    events.dedup();
    assert_eq!(events.len(), arrived, "an event arrived twice");
    assert!(arrived >= count("ok"));
    std::fs::remove_file(roots).unwrap();
}

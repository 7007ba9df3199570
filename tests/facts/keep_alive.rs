//! Connections that close at the worst moment: no event is ever sent twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use authio_actions::client::{Client, Options};
use authio_actions::config::Config;
use authio_actions::domain::{ErrorCode, Trigger};
use authio_actions::egress::{Egress, Phases, Request};
use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::endpoint::{HOST, Reply};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::support::answering;

const ROUNDS: usize = 1000;
const AT_ONCE: usize = 10;
/// Each action learns for itself that the endpoint closes at once, and then keeps no connection.
const ACTIONS: usize = 100;
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
    for n in 0..ACTIONS {
        stack.project(&format!("p{n}")).await;
        stack.action(&format!("p{n}"), "pre_register", &format!("https://{HOST}:{port}/"), "timeout_ms => 5000").await;
    }
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let rounds: Vec<_> = (0..AT_ONCE)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for round in 0..ROUNDS / AT_ONCE {
                    // One action after another, several calls each.
                    let project = format!("p{}", caller * (ACTIONS / AT_ONCE) + round / (ROUNDS / ACTIONS));
                    statuses.push(
                        client.invoke(&project, Trigger::PreRegister, &json!({"user": {}})).await.unwrap().outcome.status.to_string(),
                    );
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

/// An endpoint that closes what was idle for so long. Its closing takes a while to arrive, as it
/// does from far away: what is sent meanwhile is lost.
async fn impatient(authority: &Authority, closes_after: Duration, says: &'static str) -> u16 {
    const ON_ITS_WAY: Duration = Duration::from_millis(120);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(authority.server(&[HOST]));
    let answer = format!("HTTP/1.1 200 OK\r\n{says}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                while let Ok(Ok(request)) = tokio::time::timeout(closes_after, request(&mut stream)).await {
                    if request.is_empty() {
                        return Ok(());
                    }
                    stream.write_all(&answer).await?;
                    stream.flush().await?;
                }
                tokio::time::sleep(ON_ITS_WAY).await;
                stream.shutdown().await
            });
        }
    });
    port
}

/// Calls at a steady pace; how many were lost with the connection.
async fn lost(egress: Arc<Egress>, port: u16, pace: Duration, during: Duration) -> usize {
    let owner = format!("action of {port} at {}", pace.as_millis());
    let mut lost = 0;
    let mut ticks = tokio::time::interval(pace);
    for _ in 0..during.as_millis() / pace.as_millis() {
        ticks.tick().await;
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut phases = Phases::default();
        let target = egress.clear(&format!("https://{HOST}:{port}/"), deadline, &mut phases).await.unwrap();
        let request = Request { headers: &[], body: "{}".to_owned() };
        match egress.post(&owner, &target, request, deadline, &mut phases).await {
            Ok(answer) => assert_eq!(answer.http_status, 200),
            Err(error) => {
                assert!(matches!(error.code(), ErrorCode::ConnectionClosed | ErrorCode::ConnectionReset), "{error}");
                lost += 1;
            }
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_closes_idle_connections_soon_loses_no_calls_at_any_pace() {
    const DURING: Duration = Duration::from_millis(6_500);
    let authority = Authority::default();
    let roots = std::env::temp_dir().join(format!("authio-actions-pace-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let variables = [
        ("ACTIONS_EGRESS__ALLOW_CIDRS", r#"["127.0.0.0/8"]"#.to_owned()),
        ("ACTIONS_EGRESS__RESOLVE", format!(r#"{{"{HOST}"=["127.0.0.1"]}}"#)),
        ("ACTIONS_EGRESS__EXTRA_CA_FILE", roots.display().to_string()),
    ];
    let config = Config::load(None, variables.into_iter().map(|(name, value)| (name.to_owned(), value))).unwrap();
    let egress = Arc::new(Egress::new(&config.egress).unwrap());
    // What it says, after how many milliseconds it closes, and how many calls that may cost.
    let endpoints = [("keep-alive: timeout=1\r\n", 1_000, 0), ("", 2_000, 0), ("", 700, 1)];
    let mut calling = Vec::new();
    for (says, closes_after, most) in endpoints {
        let port = impatient(&authority, Duration::from_millis(closes_after), says).await;
        for pace in [closes_after - 50, closes_after + 20, closes_after + 60, closes_after + 100] {
            let lost = tokio::spawn(lost(Arc::clone(&egress), port, Duration::from_millis(pace), DURING));
            calling.push((closes_after, pace, most, lost));
        }
    }
    for (closes_after, pace, most, lost) in calling {
        let lost = lost.await.unwrap();
        assert!(lost <= most, "closes after {closes_after} ms, a call every {pace} ms: {lost} were lost");
    }
    std::fs::remove_file(roots).unwrap();
}

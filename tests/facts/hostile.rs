//! What strangers' servers do to us: each misbehaviour has one status, ends inside the budget,
//! and costs nobody else anything.

use std::sync::Arc;
use std::time::Duration;

use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::endpoint::{HOST, Reply};
use authio_actions_testkit::stack::Stack;
use sqlx::Row;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{answering, enqueue, until};

/// What the server does once it has read the request.
#[derive(Clone)]
enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes over and over.
    Endless(Vec<u8>),
    /// Sends these bytes over and over, one every 20 ms.
    Drip(Vec<u8>),
    /// Ends TLS and TCP in order.
    Close,
    /// Cuts TCP without a word of TLS.
    Cut,
    /// Keeps the connection and says nothing.
    Hang,
}

use Act::{Close, Cut, Drip, Endless, Hang, Send};

struct Case {
    acts: Vec<Act>,
    status: &'static str,
}

fn case(status: &'static str, acts: impl Into<Vec<Act>>) -> Case {
    Case { acts: acts.into(), status }
}

fn send(text: impl AsRef<[u8]>) -> Act {
    Send(text.as_ref().to_vec())
}

/// A whole response with the given status line, headers and body, and its right length.
fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Send(bytes)
}

const JSON: &str = "content-type: application/json\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

fn with_head(rest: &str) -> Act {
    send(format!("{HEAD}{rest}"))
}

fn json(body: impl AsRef<[u8]>) -> Act {
    response("200 OK", JSON, body)
}

fn object_of(bytes: usize) -> String {
    format!("{{\"x\":\"{}\"}}", "y".repeat(bytes - 8))
}

/// Answers that may be used, although they look odd.
fn tolerable() -> Vec<Case> {
    vec![
        case("ok", [json("{}")]),
        case("ok", [json("")]),
        case("ok", [json(" \r\n\t ")]),
        case("ok", [response("200 OK", "", "")]),
        case("ok", [send("HTTP/1.1 204 No Content\r\n\r\n")]),
        case("ok", [response("201 Created", JSON, "{}")]),
        case("ok", [response("299 Odd", JSON, "{}")]),
        case("ok", [send("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"), Close]),
        case("ok", [with_head("\r\n{}"), Close]),
        case("ok", [with_head("transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")]),
        case("ok", [with_head("transfer-encoding: chunked\r\n\r\n2;name=value\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n")]),
        case(
            "rejected",
            [with_head("transfer-encoding: chunked\r\n\r\n"), send("c\r\n{\"decision\":\r\n"), send("7\r\n\"deny\"}\r\n0\r\n\r\n")],
        ),
        case("ok", [send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"), json("{}")]),
        case("ok", [send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"), json("{}")]),
        case(
            "ok",
            [response(
                "200 OK",
                "content-type: Application/JSON; charset=utf-8\r\nalt-svc: h2=\":1\"\r\nset-cookie: a=b\r\nlocation: https://10.0.0.1/\r\n",
                "{}",
            )],
        ),
        case("ok", [json("\u{feff}{}")]),
        // Old servers: a space before the colon, a header that goes on in the next line, many headers.
        case("ok", [send("HTTP/1.1 200 OK\r\ncontent-type : application/json\r\ncontent-length: 2\r\n\r\n{}")]),
        case("ok", [send("HTTP/1.1 200 OK\r\nx-long: one,\r\n  two\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")]),
        case("ok", [response("200 OK", &format!("{JSON}{}", "x-many: 1\r\n".repeat(98)), "{}")]),
        case("ok", [response("200 OK", "content-type: application/json\r\ncontent-encoding: identity\r\n", "{}")]),
        case("ok", [json(object_of(65_536))]),
        // What comes behind a whole answer belongs to nobody.
        case("ok", [json("{}"), json(r#"{"decision":"deny"}"#)]),
    ]
}

/// Answers that came, and say that something failed.
fn failures() -> Vec<Case> {
    let statuses = [
        "300 Multiple",
        "301 Moved",
        "302 Found",
        "304 Not Modified",
        "307 Temporary",
        "308 Permanent",
        "400 Bad",
        "401 No",
        "404 None",
        "429 Slow",
        "500 Oops",
        "503 Later",
        "999 Odd",
    ];
    let mut cases: Vec<Case> =
        statuses.iter().map(|status| case("http_error", [response(status, "location: https://10.0.0.1/\r\n", "{}")])).collect();
    cases.extend([
        case("http_error", [send("HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nshort"), Close]),
        case("http_error", [send("HTTP/1.1 503 Later\r\ntransfer-encoding: chunked\r\n\r\n"), Endless(b"1\r\nx\r\n".to_vec())]),
        case("http_error", [send("HTTP/1.1 502 Bad\r\ncontent-length: 5\r\n\r\n"), Hang]),
    ]);
    cases
}

/// Answers that are no verdict.
fn unreadable() -> Vec<Case> {
    let mut gzip = vec![0x1f, 0x8b, 8, 0];
    gzip.extend([0xff; 40]);
    vec![
        case("invalid_response", [response("200 OK", "", "{}")]),
        case("invalid_response", [response("200 OK", "content-type: text/html\r\n", "<html>")]),
        case("invalid_response", [response("200 OK", "content-type: application/json\r\ncontent-type: text/html\r\n", "{}")]),
        case("invalid_response", [response("200 OK", "content-type: application/jsonp\r\n", "{}")]),
        case("invalid_response", [response("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", gzip)]),
        // Compressed is what is wrong with it, whatever its type, and however much of it comes.
        case("invalid_response", [response("200 OK", "content-type: text/html\r\ncontent-encoding: br\r\n", "x")]),
        case("invalid_response", [with_head("content-encoding: gzip\r\ncontent-length: 100\r\n\r\nxx"), Close]),
        case("invalid_response", [with_head("content-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxx\r\n"), Hang]),
        case("invalid_response", [json([b'{', 0xff, b'}'])]),
        case("invalid_response", [json([0xff, 0xfe, b'{', 0, b'}', 0])]),
        case("invalid_response", [json("[]")]),
        case("invalid_response", [json("null")]),
        case("invalid_response", [json("\"deny\"")]),
        case("invalid_response", [json("{\"decision\":\"allow\"")]),
        case("invalid_response", [json("{} {}")]),
        case("invalid_response", [json("{\"a\":\0}")]),
        case("invalid_response", [json(object_of(65_537))]),
        case("invalid_response", [with_head("content-length: 999999999999999999\r\n\r\n"), Endless(vec![b' '; 4096])]),
        case("invalid_response", [with_head("\r\n"), Endless(vec![b' '; 4096])]),
        case("invalid_response", [with_head("transfer-encoding: chunked\r\n\r\n"), Endless(b"10\r\n                \r\n".to_vec())]),
    ]
}

/// No answer at all.
fn broken() -> Vec<Case> {
    vec![
        case("network_error", [Close]),
        case("network_error", [Cut]),
        case("network_error", [send("HTTP/1.1 200 O"), Close]),
        case("network_error", [with_head("content-length: 100\r\n\r\n{}"), Close]),
        case("network_error", [with_head("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"), Close]),
        case("network_error", [with_head("transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"), Hang]),
        // Without TLS's own end, anybody on the way could have cut the answer short.
        case("network_error", [with_head("\r\n{}"), Cut]),
        case("network_error", [send("hello, this is no HTTP\r\n\r\n"), Hang]),
        case("network_error", [send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Hang]),
        case("network_error", [send("HTTP/9.9 200 OK\r\n\r\n"), Hang]),
        case("network_error", [send("HTTP/1.1 2x0 OK\r\n\r\n"), Hang]),
        case("network_error", [with_head("content-length: 2\r\ncontent-length: 3\r\n\r\n{}"), Hang]),
        case("network_error", [with_head("content-length: -2\r\n\r\n{}"), Hang]),
        case("network_error", [with_head("bad\0name: 1\r\n\r\n{}"), Hang]),
        case("network_error", [with_head(&format!("x: {}\r\n\r\n{{}}", "y".repeat(300_000))), Hang]),
        case("network_error", [with_head(""), Endless(b"x-y: zzzzzzzzzzzzzzzz\r\n".to_vec())]),
        case("network_error", [with_head(&"x-many: 1\r\n".repeat(100)), send("\r\n{}"), Hang]),
    ]
}

/// Answers that take for ever.
fn slow() -> Vec<Case> {
    vec![
        case("timeout", [Hang]),
        case("timeout", [send("HTTP/1.1 2"), Hang]),
        case("timeout", [with_head("content-length: 2\r\n\r\n{"), Hang]),
        case("timeout", [Drip(b"HTTP/1.1 200 OK\r\n".to_vec())]),
        case("timeout", [with_head("content-length: 60000\r\n\r\n"), Drip(b" ".to_vec())]),
        case("timeout", [Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]),
        case("timeout", [with_head("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"), Hang]),
    ]
}

/// Serves case `n` to requests for `/n`.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, cases: Arc<Vec<Case>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, cases) = (acceptor.clone(), Arc::clone(&cases));
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut request = Vec::new();
            while !request.windows(2).any(|pair| pair == b"}}" || pair == b"{}") {
                if stream.read_buf(&mut request).await? == 0 {
                    break;
                }
            }
            let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let case = &cases[path.parse::<usize>().unwrap()];
            for act in &case.acts {
                perform(&mut stream, act).await?;
                if matches!(act, Cut) {
                    let (tcp, _) = stream.into_inner();
                    drop(tcp);
                    return Ok(());
                }
            }
            // The connection stays until the other side has had enough.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(|_| ())
        });
    }
}

async fn perform(stream: &mut (impl AsyncWrite + Unpin), act: &Act) -> std::io::Result<()> {
    match act {
        Send(bytes) => stream.write_all(bytes).await?,
        Endless(bytes) => loop {
            stream.write_all(bytes).await?;
        },
        Drip(bytes) => {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            for byte in bytes.iter().cycle() {
                ticks.tick().await;
                stream.write_all(std::slice::from_ref(byte)).await?;
                stream.flush().await?;
            }
        }
        Close => return stream.shutdown().await,
        Hang => std::future::pending::<()>().await,
        Cut => {}
    }
    stream.flush().await
}

fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misbehaviour_has_its_status_inside_the_budget_and_within_bounded_memory() {
    const TIMEOUT_MS: f64 = 1500.0;
    let cases: Vec<Case> = [tolerable(), failures(), unreadable(), broken(), slow()].into_iter().flatten().collect();
    let cases = Arc::new(cases);
    let authority = Authority::default();
    let roots = std::env::temp_dir().join(format!("authio-actions-hostile-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, TlsAcceptor::from(authority.server(&[HOST])), Arc::clone(&cases)));

    let stack = answering(Reply::json("{}")).await;
    let worker = stack.worker(&[("ACTIONS_EGRESS__EXTRA_CA_FILE", roots.to_str().unwrap())]).await;
    let before = peak_mib(worker.id());
    for n in 0..cases.len() {
        let project = format!("p{n}");
        stack.project(&project).await;
        stack.action(&project, "pre_register", &format!("https://{HOST}:{port}/{n}"), &format!("timeout_ms => {TIMEOUT_MS}")).await;
    }
    for n in 0..cases.len() {
        enqueue(&stack.core, &format!("p{n}"), "pre_register", r#"{"user":{}}"#).await;
    }
    until(
        &stack.ops,
        "all ended",
        &format!("select count(*) = {} from actions.recent_invocations where finished_at is not null", cases.len()),
    )
    .await;
    let rows = sqlx::query("select project_id, status, error, duration_ms, phases::text from actions.recent_invocations")
        .fetch_all(&stack.ops)
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for row in &rows {
        let n: usize = row.get::<&str, _>(0)[1..].parse().unwrap();
        let (status, error, took): (&str, Option<&str>, f64) = (row.get(1), row.get(2), row.get(3));
        if status != cases[n].status || took > TIMEOUT_MS + 50.0 || row.get::<Option<&str>, _>(4).is_none() {
            let first = match &cases[n].acts[0] {
                Send(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned(),
                _ => "no bytes".to_owned(),
            };
            wrong.push(format!("case {n}, wanted {}: {status} {error:?} after {took} ms; {first:?}", cases[n].status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = peak_mib(worker.id()) - before;
    assert!(grown < 64.0, "the worker grew by {grown:.0} MiB");
    std::fs::remove_file(roots).unwrap();
}

/// Status and error of the only invocation of a project, once it has ended.
async fn ended(stack: &Stack, project: &str) -> (String, String) {
    let sql = format!("select finished_at is not null from actions.recent_invocations where project_id = '{project}'");
    until(&stack.ops, "ended", &sql).await;
    let row = sqlx::query("select status, coalesce(error, '') from actions.recent_invocations where project_id = $1")
        .bind(project)
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_no_tls_servers_of_that_name_never_see_a_request() {
    let stack = answering(Reply::json("{}")).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let closed_port = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap().port()
    };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let held: tokio::task::JoinHandle<Vec<TcpStream>> = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = mute.accept().await {
            held.push(stream);
        }
        held
    });
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing_port = refusing.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = refusing.accept().await {
            // The TLS alert handshake_failure: what a server answers that speaks an older TLS only.
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        }
    });
    let resolve = format!(r#"{{"{HOST}"=["127.0.0.1"],"other.test"=["127.0.0.1"]}}"#);
    let _worker = stack.worker(&[("ACTIONS_EGRESS__RESOLVE", &resolve)]).await;
    let other_name = stack.endpoint.url("/").replace(HOST, "other.test");
    let urls = [
        ("plain", format!("https://{HOST}:{plain_port}/"), "network_error", "not with TLS"),
        ("mute", format!("https://{HOST}:{mute_port}/"), "timeout", "TLS"),
        ("closed", format!("https://{HOST}:{closed_port}/"), "network_error", "refused the connection"),
        ("refusing", format!("https://{HOST}:{refusing_port}/"), "network_error", "TLS 1.2 or later is needed"),
        ("name", other_name, "network_error", "it names hooks.acme.test"),
    ];
    for (project, url, _, _) in &urls {
        stack.project(project).await;
        stack.action(project, "pre_register", url, "timeout_ms => 500").await;
        enqueue(&stack.core, project, "pre_register", "{}").await;
    }
    for (project, _, status, says) in urls {
        let (found, error) = ended(&stack, project).await;
        assert_eq!(found, status, "{project}: {error}");
        assert!(error.contains(says), "{project}: {error}");
        assert!(!error.contains("127.0.0.1"), "{project} tells an address: {error}");
    }
    assert!(stack.endpoint.requests().is_empty());
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_outside_of_its_time_is_told_with_the_day() {
    let authority = Authority::default();
    let roots = std::env::temp_dir().join(format!("authio-actions-days-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[("ACTIONS_EGRESS__EXTRA_CA_FILE", roots.to_str().unwrap())]).await;
    for (project, years, says) in
        [("old", (2020, 2021), "expired on 2021-01-01; renew it"), ("young", (2090, 2091), "is not valid before 2090-01-01")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, TlsAcceptor::from(authority.server_of_years(&[HOST], years)), Arc::default()));
        stack.project(project).await;
        stack.action(project, "pre_register", &format!("https://{HOST}:{port}/"), "").await;
        enqueue(&stack.core, project, "pre_register", "{}").await;
        let (status, error) = ended(&stack, project).await;
        assert_eq!(status, "network_error");
        assert!(error.contains(says), "{error}");
    }
    std::fs::remove_file(roots).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_route_is_the_fleets_fault_and_next_to_a_refusal_the_endpoints() {
    let stack = answering(Reply::json("{}")).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    // No TCP goes to a multicast address, on any machine: ENETUNREACH.
    let resolve = r#"{"lost.test"=["224.0.0.9"],"half.test"=["224.0.0.9","127.0.0.1"]}"#;
    let allow = r#"["127.0.0.0/8","224.0.0.0/4"]"#;
    let _worker = stack.worker(&[("ACTIONS_EGRESS__RESOLVE", resolve), ("ACTIONS_EGRESS__ALLOW_CIDRS", allow)]).await;
    for (host, status, says) in [("lost.test", "expired", "does not reach"), ("half.test", "network_error", "refused the connection")] {
        stack.project(host).await;
        stack.action(host, "pre_register", &format!("https://{host}:{closed}/"), "").await;
        enqueue(&stack.core, host, "pre_register", "{}").await;
        let (found, error) = ended(&stack, host).await;
        assert_eq!(found, status, "{host}: {error}");
        assert!(error.contains(says), "{host}: {error}");
    }
}

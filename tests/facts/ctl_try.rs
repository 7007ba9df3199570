//! `actionsctl try`: a customer's local loop, without a database.

use authio_actions_testkit::endpoint::Reply;
use serde_json::Value;

use crate::operator::{Operator, text};
use crate::support::{answering, by_path};

#[tokio::test(flavor = "multi_thread")]
async fn try_tells_a_verdict_and_everything_dropped_or_fails_without_a_database() {
    let stack = by_path(|path| match path {
        "/deny" => Reply::json(r#"{"decision":"deny","deny_code":"late"}"#),
        "/roles" => Reply::json(r#"{"override_roles":["a","b"],"override_claims":{"n":12345678901234567890,"sub":"x"}}"#),
        "/down" => Reply::with_status(503, "{}"),
        _ => Reply::json("{}"),
    })
    .await;
    let environment: Vec<_> = stack.environment("ops", &[]).into_iter().filter(|(name, _)| !name.contains("DATABASE")).collect();
    let customer = Operator { environment }.with("AUTHIO_ACTION_SECRET", "asec_1");
    let tried = async |path: &str, more: &[&str]| {
        let url = stack.endpoint.url(path);
        customer.run(&[&["try", "--url", &url, "--trigger", "pre_token_mint", "--json"], more].concat()).await
    };
    let allowed = tried("/roles", &["--roles", "a"]).await;
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed));
    assert!(text(&allowed).contains("12345678901234567890"), "numbers stay as they were written");
    let outcome: Value = serde_json::from_slice(&allowed.stdout).unwrap();
    assert_eq!(outcome["outcome"]["roles"], serde_json::json!(["a"]));
    let dropped: Vec<&str> = outcome["outcome"]["dropped"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert!(dropped.contains(&"override_roles"), "{dropped:?}");
    assert_eq!(outcome["dropped"], outcome["outcome"]["dropped"]);
    let all_known: Value = serde_json::from_slice(&tried("/roles", &[]).await.stdout).unwrap();
    let asked = all_known["verdict"]["override_roles"].as_array().unwrap().len();
    assert_eq!(all_known["outcome"]["roles"].as_array().unwrap().len(), asked, "{all_known}");
    let denied = tried("/deny", &[]).await;
    assert!(denied.status.success() && text(&denied).contains(r#""decision":"deny""#), "a verdict is a success: {}", text(&denied));
    assert_eq!(tried("/down", &[]).await.status.code(), Some(1));
    assert_eq!(tried("/", &["--event", "absent.json"]).await.status.code(), Some(2));
    let sent = stack.endpoint.requests();
    assert!(sent.len() == 4 && sent.iter().all(|request| request.json()["metadata"]["test"] == true));
    let secret = [&authio_actions::sign::Secret::from_text("asec_1")];
    let header = [sent[0].header("authio-signature").to_owned()];
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let check = authio_actions::sign::verify(&header, &sent[0].body, &secret, now);
    assert!(matches!(check, authio_actions::domain::SignatureCheck::Valid { current: true }), "{check:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn try_reaches_this_machine_without_tls_and_no_other() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65_536];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let customer = Operator { environment: vec![("AUTHIO_ACTION_SECRET".to_owned(), "asec_1".to_owned())] };
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{port}/");
        let output = customer.run(&["try", "--url", &url, "--trigger", "pre_register"]).await;
        assert!(output.status.success(), "{}", text(&output));
    }
    for url in ["http://hooks.acme.com/", "http://10.0.0.7/", "http://localhost.evil.net/"] {
        let output = customer.run(&["try", "--url", url, "--trigger", "pre_register"]).await;
        assert_eq!(output.status.code(), Some(2), "{url}: {}", text(&output));
    }
    let output = customer.run(&["try", "--url", "https://10.0.0.7/", "--trigger", "pre_register"]).await;
    assert!(output.status.code() == Some(1) && text(&output).contains("ssrf_blocked"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_answers_cannot_steer_the_terminal() {
    let answer = r#"{"decision":"deny","deny_code":"\u001b[31m","deny_reason":"\u001b]0;title\u0007","append_audit":"\u001bc"}"#;
    let stack = answering(Reply::json(answer)).await;
    let customer = Operator::of(&stack).await.with("AUTHIO_ACTION_SECRET", "asec_1");
    let output = customer.run(&["try", "--url", &stack.endpoint.url("/"), "--trigger", "pre_register"]).await;
    assert!(output.status.success(), "{}", text(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("]0;title") && !shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
}

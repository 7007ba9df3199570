//! What an endpoint sees.

use authio_actions_testkit::endpoint::{Endpoint, Received, Reply};
use authio_actions_testkit::receiver;
use authio_actions_testkit::stack::{ROOT_KEY, Stack};

use crate::support::{answering, invoke, invoke_event, programs, until};

#[tokio::test(flavor = "multi_thread")]
async fn signed_bytes_are_sent_bytes_and_the_event_stays_as_it_was_written() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_token_mint", &stack.endpoint.url("/hook?x=1"), "").await;
    let event = r#"{"user": {"id":"\u00fc\u0000","n":1.0e400}, "token" : {}}"#;
    let state = invoke_event(&stack, "p", "pre_token_mint", event).await;
    let request = stack.endpoint.requests().remove(0);
    let secret = receiver::secret(ROOT_KEY, &action, 1);
    assert!(receiver::verify_last(&secret, request.header("authio-signature"), &request.body));
    let body = std::str::from_utf8(&request.body).unwrap();
    assert!(body.ends_with(r#","user": {"id":"\u00fc\u0000","n":1.0e400}, "token" : {}}"#), "{body}");
    let start = format!(r#"{{"event_id":"{}","trigger":"pre_token_mint","occurred_at":"2"#, state.event_id);
    assert!(body.starts_with(&start) && body.contains(r#"Z","project":{"id":"p"},"#), "{body}");
    let host = format!("hooks.acme.test:{}", stack.endpoint.address.port());
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        ("authio-action-id", action.as_str()),
        ("authio-trigger", "pre_token_mint"),
        ("authio-event-id", state.event_id.as_str()),
        ("user-agent", concat!("Authio-Actions/", env!("CARGO_PKG_VERSION"))),
        ("host", host.as_str()),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_rotation_a_receiver_that_reads_only_the_last_signature_keeps_working() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let [old, new] = [1, 2].map(|version| receiver::secret(ROOT_KEY, &action, version));
    for (change, last, elements) in
        [("select 1", &old, 1), ("select actions.rotate_secret($1)", &old, 2), ("select actions.finish_rotation($1)", &new, 1)]
    {
        let query = sqlx::query(change);
        let query = if change.contains("$1") { query.bind(&action) } else { query };
        query.execute(&stack.admin).await.unwrap();
        invoke(&stack, "p", "pre_register").await;
        let request = stack.endpoint.requests().pop().unwrap();
        let header = request.header("authio-signature").to_owned();
        assert!(receiver::verify_last(last, &header, &request.body), "{change}: {header}");
        assert_eq!(header.matches("v1=").count(), elements, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_answer_is_checked_and_an_unsigned_one_refused_where_the_action_requires_it() {
    let secrets = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let known = std::sync::Arc::clone(&secrets);
    let stack = Stack::start(&programs(), move |request: Received| {
        let body = r#"{"decision":"deny"}"#;
        let secret = known.lock().unwrap().clone();
        let age = match request.path.as_str() {
            "/fresh" => Some(0),
            "/old" => Some(301),
            "/edge" => Some(290),
            _ => None,
        };
        let reply = Reply::json(body);
        std::future::ready(match age {
            Some(age) => reply.and_header("authio-response-signature", receiver::sign(&secret, receiver::now() - age, body.as_bytes())),
            None => reply,
        })
    })
    .await;
    let _worker = stack.worker(&[]).await;
    for (path, status) in [("/fresh", "rejected"), ("/edge", "rejected"), ("/old", "invalid_signature"), ("/unsigned", "invalid_signature")]
    {
        stack.project(path).await;
        let action = stack.action(path, "pre_register", &stack.endpoint.url(path), "require_response_signature => true").await;
        *secrets.lock().unwrap() = receiver::secret(ROOT_KEY, &action, 1);
        assert_eq!(invoke(&stack, path, "pre_register").await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_knows_key_version_and_fingerprint_and_nowhere_the_secret() {
    let stack = answering(Reply::json("{}")).await;
    let mut worker = stack.worker(&[]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let recorded = format!("select secret_sha256 is not null and secret_key_id = 'k1' from actions.actions where action_id = '{action}'");
    until(&stack.ops, "the worker records the fingerprint", &recorded).await;
    invoke(&stack, "p", "pre_register").await;
    let secret = receiver::secret(ROOT_KEY, &action, 1);
    let owner = stack.database.owner().await;
    let fingerprint: String = sqlx::query_scalar("select secret_sha256 from actions.actions").fetch_one(&stack.ops).await.unwrap();
    let expected: String =
        sqlx::query_scalar("select encode(sha256(convert_to($1, 'UTF8')), 'hex')").bind(&secret).fetch_one(&owner).await.unwrap();
    assert_eq!(fingerprint, expected);
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', table_schema, table_name) from information_schema.tables where table_schema in ('actions', 'actions_private')",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert!(tables.len() > 10);
    for table in tables {
        let found: bool = sqlx::query_scalar(&format!("select exists (select from {table} as t where t::text ~ $1)"))
            .bind(format!("{}|{}|asec_", &secret[5..], ROOT_KEY))
            .fetch_one(&owner)
            .await
            .unwrap();
        assert!(!found, "{table} holds a secret");
    }
    assert_eq!(worker.drained().await.code(), Some(0));
    let log = worker.log();
    assert!(!log.contains(&secret[5..]) && !log.contains(ROOT_KEY) && !log.contains("asec_"), "{log}");
    let password = url::Url::parse(&stack.database.url("worker")).unwrap().password().unwrap().to_owned();
    assert!(!log.contains(&password), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_root_key_never_calls_unsigned() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "fail_mode => 'closed'").await;
    let owner = stack.database.owner().await;
    sqlx::query("update actions_private.actions set secret_key_id = 'k9', secret_sha256 = 'x' where id = $1")
        .bind(&action)
        .execute(&owner)
        .await
        .unwrap();
    let mut worker = stack.worker(&[]).await;
    let state = invoke(&stack, "p", "pre_register").await;
    assert_eq!((state.status.as_str(), state.outcome()["decision"].as_str()), ("expired", Some("deny")));
    assert!(state.outcome()["reason"].as_str().unwrap().contains("k9"));
    worker.logged("lacks the root key").await;
    assert_eq!(stack.endpoint.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_can_be_replaced_while_old_secrets_stay_valid() {
    let stack = answering(Reply::json("{}")).await;
    let newer = "a".repeat(64);
    stack.project("p").await;
    let old = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let worker = stack.worker(&[]).await;
    invoke(&stack, "p", "pre_register").await;
    drop(worker);
    let _worker = stack.worker(&[("ACTIONS_SECRETS__ROOT_KEYS", &format!("k2:{newer},k1:{ROOT_KEY}"))]).await;
    let new = stack.action("p", "post_register", &stack.endpoint.url("/"), "").await;
    for (trigger, key, action) in [("pre_register", ROOT_KEY, old), ("post_register", newer.as_str(), new)] {
        invoke(&stack, "p", trigger).await;
        let request = stack.endpoint.requests().pop().unwrap();
        assert!(receiver::verify_last(&receiver::secret(key, &action, 1), request.header("authio-signature"), &request.body), "{trigger}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_the_action_and_never_shared_with_another() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[("ACTIONS_EGRESS__IDLE_CONNECTION_MS", "60000")]).await;
    for (project, connections) in [("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 2)] {
        if stack.endpoint.requests().len() != 1 && stack.endpoint.connections() < connections {
            stack.project(project).await;
            stack.action(project, "pre_register", &stack.endpoint.url("/"), "").await;
        }
        assert_eq!(invoke(&stack, project, "pre_register").await.status, "ok");
        assert_eq!(stack.endpoint.connections(), connections, "{project}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_and_redirects_are_not_followed() {
    let elsewhere = answering(Reply::json("{}")).await;
    let target = elsewhere.endpoint.url("/");
    let stack = answering(Reply::with_status(307, "").and_header("location", target)).await;
    let proxy = format!("http://127.0.0.1:{}", elsewhere.endpoint.address.port());
    let _worker = stack.worker(&[("HTTPS_PROXY", &proxy), ("https_proxy", &proxy), ("ALL_PROXY", &proxy)]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    assert_eq!(invoke(&stack, "p", "pre_register").await.status, "http_error");
    assert_eq!(elsewhere.endpoint.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_certificates_with_the_right_name_are_spoken_to() {
    let stack = answering(Reply::json("{}")).await;
    let stranger =
        Endpoint::start(&authio_actions_testkit::certificate::Authority::default(), |_| std::future::ready(Reply::json("{}"))).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stranger.url("/"), "").await;
    let state = invoke(&stack, "p", "pre_register").await;
    assert_eq!(state.status, "network_error");
    let error: String = sqlx::query_scalar("select error from actions.recent_invocations").fetch_one(&stack.ops).await.unwrap();
    assert!(error.contains("send the intermediate certificates"), "{error}");
    assert_eq!((stranger.connections(), stranger.requests().len()), (1, 0));
}

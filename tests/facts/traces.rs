//! Traces: what the endpoint gets, and what the operator's collector gets.

use std::collections::BTreeMap;

use authio_actions::client::{Client, Details, Options};
use authio_actions::domain::Trigger;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::scrape;
use authio_actions_testkit::webhook::Webhook;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use serde_json::json;

use crate::support::{answering, ask, by_path, repeat, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// Waits until the collector has the span that ends a trace; everything it got, and of whom.
async fn collected(collector: &mut Webhook, roots: usize) -> (Vec<Span>, BTreeMap<String, String>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut whose = BTreeMap::new();
    while spans.iter().filter(|span| span.name == "invocation").count() < roots {
        let (path, body) = collector.next_bytes().await;
        assert_eq!(path, "/v1/traces");
        for of_process in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            whose = texts(&of_process.resource.unwrap().attributes);
            spans.extend(of_process.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    (spans, whose)
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_one_trace_from_enqueue_to_notify() {
    let stack = answering(Reply::json("{}")).await;
    let mut collector = Webhook::start(&[]).await;
    let mut worker = stack.worker(&[("ACTIONS_TELEMETRY__OTLP_ENDPOINT", &collector.url)]).await;
    stack.project("p").await;
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let given = parent("01");
    let details = Details { trace_parent: Some(&given), ..Details::default() };
    // Not recorded: whoever asked does not record it either.
    let unsampled = parent("00");
    let other = Details { trace_parent: Some(&unsampled), ..Details::default() };
    client.invoke_with(&other, "p", Trigger::PreRegister, &json!({})).await.unwrap();
    let answer = client.invoke_with(&details, "p", Trigger::PreRegister, &json!({})).await.unwrap();

    let (spans, whose) = collected(&mut collector, 1).await;
    assert_eq!(whose["service.name"], "actions-worker");
    assert_eq!(whose["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(whose["service.instance.id"].starts_with("worker-"), "{whose:?}");
    for span in &spans {
        assert_eq!(hex::encode(&span.trace_id), TRACE, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
    }
    let root = spans.iter().find(|span| span.name == "invocation").unwrap();
    assert_eq!(hex::encode(&root.parent_span_id), SPAN);
    let said = texts(&root.attributes);
    assert_eq!(
        (said["authio.invocation_id"].as_str(), said["authio.event_id"].as_str()),
        (answer.invocation_id.as_deref().unwrap(), answer.event_id.as_str())
    );
    assert_eq!(
        (said["authio.action_id"].as_str(), said["authio.status"].as_str(), said["authio.decision"].as_str()),
        (action.as_str(), "ok", "allow")
    );

    // A connection was there already: the second call neither connects nor shakes hands.
    let names: Vec<&str> = spans.iter().filter(|span| span.name != "invocation").map(|span| span.name.as_str()).collect();
    let told_apart = names.iter().filter(|name| **name != "notify").copied().collect::<Vec<_>>();
    assert_eq!(told_apart, ["enqueue→claim", "dns", "first_byte", "body", "write_back"]);
    let mut before = root.start_time_unix_nano;
    for span in spans.iter().filter(|span| span.name != "invocation") {
        assert_eq!(span.parent_span_id, root.span_id, "{}", span.name);
        assert!(span.start_time_unix_nano >= before && span.end_time_unix_nano <= root.end_time_unix_nano, "{}", span.name);
        before = span.start_time_unix_nano;
    }
    // What the endpoint does belongs under the invocation; of what is not recorded it gets what was given.
    let got: Vec<String> = stack.endpoint.requests().iter().map(|request| request.header("traceparent").to_owned()).collect();
    assert_eq!(got, [unsampled, format!("00-{TRACE}-{}-01", hex::encode(&root.span_id))]);
    assert!(worker.drained().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_phase_of_a_new_connection_is_a_span_and_a_failure_is_one_with_an_error() {
    let stack = by_path(|path| if path == "/broken" { Reply::with_status(500, "") } else { Reply::json("{}") }).await;
    let mut collector = Webhook::start(&[]).await;
    let mut worker = stack.worker(&[("ACTIONS_TELEMETRY__OTLP_ENDPOINT", &format!("{}/", collector.url))]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/broken"), "").await;
    let queued = ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', trace_parent => $1)", &[&parent("01")]).await.unwrap();
    let over = format!("select finished_at is not null from actions.recent_invocations where invocation_id = '{}'", queued[0].id());
    until(&stack.ops, "it is over", &over).await;
    // Who leaves sends what is left.
    assert!(worker.drained().await.success());
    let (spans, _) = collected(&mut collector, 1).await;
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["enqueue→claim", "dns", "connect", "tls", "first_byte", "body", "write_back", "invocation"]);
    let root = spans.last().unwrap();
    assert_eq!(root.status.as_ref().unwrap().code(), StatusCode::Error);
    let said = texts(&root.attributes);
    assert_eq!((said["error.type"].as_str(), said["authio.status"].as_str()), ("http_5xx", "http_error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_trace_parent_is_passed_on_whichever_way_it_came_and_an_invalid_one_is_passed_over() {
    let stack = answering(Reply::json("{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let (good, upper, long) = (parent("01"), parent("01").to_uppercase(), format!("{}-more", parent("01")));
    let huge = format!("01-{TRACE}-{SPAN}-01-{}", "x".repeat(100_000));
    let one = "actions.enqueue('p', 'pre_register', '{}', trace_parent => $1)";
    let array = "actions.enqueue_many(json_build_array(json_build_object('project_id', 'p', 'trigger', 'pre_register', 'event', '{}'::json, 'trace_parent', $1)), null)";
    let columns = "actions.enqueue_many(array['p'], array['pre_register'], array['{}'::json], null, null, null, array[$1])";
    let again =
        "actions.enqueue_again(array['p'], array['pre_register'], array['{}'::json], null, null, null, actions.server_epoch(), array[$1])";
    // A name of an event leads by another way, a condition by a third.
    let named = "actions.enqueue('p', 'pre_register', '{}', null, authio_event_id(), $1)";
    let zeros = format!("00-{}-{SPAN}-01", "0".repeat(32));
    let mut expected = Vec::new();
    sqlx::query("create function authio_event_id() returns text language sql as $$ select 'evt_01JD3X6G8Q7N9V8R2M4T6W8Y0B' $$")
        .execute(&stack.database.owner().await)
        .await
        .unwrap();
    for way in [one, array, columns, again, named] {
        for (given, passed) in
            [(&good, good.as_str()), (&upper, ""), (&long, ""), (&zeros, ""), (&huge, good.as_str()), (&String::new(), "")]
        {
            if way == named && given != &good {
                continue;
            }
            ask(&stack.core, way, &[given]).await.unwrap();
            expected.push(passed.to_owned());
            stack.endpoint.received(expected.len()).await;
        }
    }
    for odd in ["7", "null", "{}", "[\"x\"]", "\"\\u0000\""] {
        let request = format!(r#"[{{"project_id":"p","trigger":"pre_register","event":{{}},"trace_parent":{odd}}}]"#);
        ask(&stack.core, "actions.enqueue_many($1::json, null)", &[&request]).await.unwrap();
        expected.push(String::new());
        stack.endpoint.received(expected.len()).await;
    }
    let square = "actions.enqueue_many(array['p'], array['pre_register'], array['{}'::json], null, null, null, array[array[$1, $1]])";
    ask(&stack.core, square, &[&good]).await.unwrap();
    expected.push(String::new());
    stack.endpoint.received(expected.len()).await;
    let got: Vec<String> = stack.endpoint.requests().iter().map(|request| request.header("traceparent").to_owned()).collect();
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nobody_his_sign_in() {
    let stack = answering(Reply::json("{}")).await;
    let nowhere = format!("http://{}", scrape::free_address());
    let mut worker = stack.worker(&[("ACTIONS_TELEMETRY__OTLP_ENDPOINT", &nowhere)]).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.unwrap();
    let given = parent("01");
    let details = Details { trace_parent: Some(&given), ..Details::default() };
    for _ in 0..3 {
        let answer = client.invoke_with(&details, "p", Trigger::PreRegister, &json!({})).await.unwrap();
        assert_eq!(answer.outcome.status.as_str(), "ok");
    }
    worker.logged("spans are dropped: the collector does not take them").await;
    // Those of an endpoint that refuses are told by its status; a span is no reason to try twice.
    let mut refusing = Webhook::start(&[401, 503]).await;
    let mut other = stack.worker(&[("ACTIONS_TELEMETRY__OTLP_ENDPOINT", &refusing.url)]).await;
    assert!(worker.drained().await.success());
    let answer = client.invoke_with(&details, "p", Trigger::PreRegister, &json!({})).await.unwrap();
    assert_eq!(answer.outcome.status.as_str(), "ok");
    refusing.next_bytes().await;
    other.logged("401").await;
    assert!(other.drained().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_nobody_takes_are_counted() {
    let stack = answering(Reply::json("{}")).await;
    let (metrics, nowhere) = (scrape::free_address(), format!("http://{}", scrape::free_address()));
    let settings = [("ACTIONS_TELEMETRY__OTLP_ENDPOINT", nowhere.as_str()), ("ACTIONS_METRICS__LISTEN", &metrics)];
    let mut worker = stack.worker(&settings).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    for _ in 0..3 {
        ask(&stack.core, "actions.enqueue('p', 'pre_register', '{}', trace_parent => $1)", &[&parent("01")]).await.unwrap();
    }
    repeat(async || scrape::value(&metrics, "actions_spans_dropped_total").await >= 15.0).await;
    assert_eq!(scrape::value(&metrics, "actions_spans_exported_total").await, 0.0);
    assert!(worker.drained().await.success());
}

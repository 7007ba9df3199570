//! The console: who comes in, who sees what, what a change needs.

use authio_actions_testkit::browser::{Browser, Seen};
use authio_actions_testkit::endpoint::{HOST, Reply};
use authio_actions_testkit::process::Program;
use authio_actions_testkit::provider::{CLIENT, Provider};
use authio_actions_testkit::scrape;
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};

use crate::operator::{Operator, text};
use crate::support::{answering, by_path, enqueue, until};

struct Site {
    stack: Stack,
    address: String,
    action: String,
    _console: Program,
}

/// Two projects, one of which has an action, and a console without a local login.
async fn site() -> Site {
    let stack = answering(Reply::json("{}")).await;
    for project in ["p", "q"] {
        stack.project(project).await;
    }
    let action = stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let (console, address) = stack.console(&[]).await;
    Site { stack, address, action, _console: console }
}

impl Site {
    async fn link(&self, project: &str, role: &str, ttl: &str) -> String {
        let operator = Operator { environment: self.stack.environment("ops", &[]) };
        let output =
            operator.run(&["console", "link", "--project", project, "--email", "ada@acme.com", "--role", role, "--ttl", ttl]).await;
        assert!(output.status.success(), "{}", text(&output));
        text(&output).trim().rsplit_once("/enter/").unwrap().1.to_owned()
    }

    /// Somebody who came in by a portal link.
    async fn person(&self, project: &str, role: &str) -> Browser {
        let mut browser = Browser::new(&self.address);
        let seen = browser.get(&format!("/enter/{}", self.link(project, role, "15m").await)).await;
        assert_eq!((seen.status, seen.header("location")), (303, format!("/projects/{project}").as_str()), "{}", seen.body);
        browser
    }
}

fn is_forbidden(seen: &Seen) {
    assert_eq!(seen.status, 403, "{}", seen.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_anything_without_signing_in_but_the_health_and_the_assets() {
    let site = site().await;
    let mut browser = Browser::new(&site.address);
    let action = format!("/actions/{}", site.action);
    for path in ["/", "/projects", "/projects/p", "/audit", "/search?q=p", &action, "/actions/new", "/invocations/inv_1"] {
        let seen = browser.get(path).await;
        assert!(seen.status == 401 && !seen.body.contains("Acme"), "{path}: {} {}", seen.status, seen.body);
    }
    for path in ["/healthz", "/assets/console.css", "/assets/htmx.min.js"] {
        assert_eq!(browser.get(path).await.status, 200, "{path}");
    }
    let seen = browser.get("/").await;
    let policy = seen.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("base-uri 'none'") && policy.contains("form-action 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!((seen.header("referrer-policy"), seen.header("cache-control")), ("same-origin", "no-store"));
    assert!(!seen.body.contains("style=") && !seen.body.contains("onclick"), "nothing inline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_link_opens_one_project_once_and_for_its_time() {
    let site = site().await;
    let token = site.link("p", "viewer", "15m").await;
    let mut browser = Browser::new(&site.address);
    let seen = browser.get(&format!("/enter/{token}")).await;
    assert_eq!(seen.status, 303);
    let cookie = seen.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Secure"), "on loopback: {cookie}");
    assert_eq!(browser.get("/projects/p").await.status, 200);
    // Another console, and another person, with the same link.
    let (_another, address) = site.stack.console(&[]).await;
    for address in [&site.address, &address] {
        is_forbidden(&Browser::new(address).get(&format!("/enter/{token}")).await);
    }
    let mut forged = token.clone().into_bytes();
    forged[10] = if forged[10] == b'0' { b'1' } else { b'0' };
    is_forbidden(&Browser::new(&site.address).get(&format!("/enter/{}", String::from_utf8(forged).unwrap())).await);
    // Over before it was used: the clock of the database says so.
    let late = site.link("p", "viewer", "1s").await;
    until(
        &site.stack.core,
        "a second went by",
        &format!("select clock_timestamp() > '{}'::timestamptz + interval '2 seconds'", now(&site).await),
    )
    .await;
    is_forbidden(&Browser::new(&site.address).get(&format!("/enter/{late}")).await);
    // The other project's page reads exactly like one that does not exist.
    let (other, none) = (browser.get("/projects/q").await, browser.get("/projects/nowhere").await);
    assert_eq!((other.status, &other.body), (404, &none.body));
}

async fn now(site: &Site) -> String {
    sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&site.stack.core).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_and_an_admin_changes_with_the_token_of_the_page_alone() {
    let site = site().await;
    let (mut viewer, mut admin) = (site.person("p", "viewer").await, site.person("p", "admin").await);
    let page = format!("/actions/{}", site.action);
    let disable = format!("{page}/disable");
    let enabled = async || -> bool {
        sqlx::query_scalar("select enabled from actions.actions where action_id = $1")
            .bind(&site.action)
            .fetch_one(&site.stack.ops)
            .await
            .unwrap()
    };
    let seen = viewer.get(&page).await;
    assert!(seen.status == 200 && !seen.body.contains("Rotate secret"), "{}", seen.body);
    is_forbidden(&viewer.get(&disable).await);
    is_forbidden(&viewer.post(&disable, &[("csrf_token", &seen.csrf())]).await);
    // An admin of the project, but not by a form of his.
    for token in ["", "0000", &seen.csrf()] {
        is_forbidden(&admin.post(&disable, &[("csrf_token", token)]).await);
    }
    is_forbidden(&admin.post(&disable, &[]).await);
    assert!(enabled().await);
    let asked = admin.get(&disable).await;
    assert!(asked.body.contains("Disable"));
    assert_eq!(admin.post(&disable, &[("csrf_token", &asked.csrf())]).await.status, 303);
    assert!(!enabled().await);
    let (event, actor, login): (String, String, String) =
        sqlx::query_as("select event, actor, login from actions.audit_log order by at desc limit 1")
            .fetch_one(&site.stack.ops)
            .await
            .unwrap();
    assert_eq!((event.as_str(), actor.as_str(), login.as_str()), ("action.disabled", "ada@acme.com", "test_console"));
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_is_asked_at_every_request_and_signing_out_ends_the_session_on_the_server() {
    let site = site().await;
    let owner = site.stack.database.owner().await;
    let mut admin = site.person("p", "owner").await;
    // As somebody who came by an e-mail address would have it.
    sqlx::query("update actions_private.console_sessions set project_id = null, role = null").execute(&owner).await.unwrap();
    assert_eq!(admin.get("/projects/p").await.status, 404);
    for (role, status) in [("viewer", 403), ("Admin", 303)] {
        sqlx::query("select actions.set_project_members('p', $1::json)")
            .bind(format!(r#"[{{"email":"ADA@acme.com","role":"{role}"}}]"#))
            .execute(&site.stack.admin)
            .await
            .unwrap();
        let page = admin.get("/projects/p").await;
        assert_eq!(page.status, 200);
        let fields = [("csrf_token", page.csrf()), ("roles_action_override", "false".to_owned())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(admin.post("/projects/p/override", &fields).await.status, status, "{role}");
    }
    let copy = admin.clone();
    let csrf = admin.get("/").await.csrf();
    assert_eq!(admin.post("/sign-out", &[("csrf_token", &csrf)]).await.status, 303);
    let mut copy = copy;
    assert_eq!(copy.get("/projects/p").await.status, 401, "a cookie that somebody kept opens nothing");
    let left: i64 = sqlx::query_scalar("select count(*) from actions_private.console_sessions").fetch_one(&owner).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_made_edited_tested_and_deleted_and_its_secret_is_shown_once() {
    let site = site().await;
    let _worker = site.stack.worker(&[]).await;
    let mut admin = site.person("q", "admin").await;
    let form = admin.get("/projects/q/actions/new").await;
    let csrf = form.csrf();
    for label in ["Trigger", "Endpoint URL", "Name", "Timeout", "Fail mode", "On killed", "Create action"] {
        assert!(form.body.contains(label), "{label}");
    }
    let url = site.stack.endpoint.url("/");
    let fields = |timeout, url| {
        [
            ("csrf_token", csrf.as_str()),
            ("trigger", "pre_register"),
            ("name", "<b>Gate</b>"),
            ("endpoint_url", url),
            ("timeout_ms", timeout),
            ("fail_mode", "closed"),
            ("on_killed", "skip"),
        ]
    };
    let refused = admin.post("/projects/q/actions/new", &fields("7000", &url)).await;
    assert!(
        refused.status == 422 && refused.body.contains("timeout_ms is 7000") && refused.body.contains("&lt;b&gt;Gate"),
        "{}",
        refused.body
    );
    let made = admin.post("/projects/q/actions/new", &fields("1500", &url)).await;
    let secret = made.body.split("asec_").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).count());
    assert_eq!((made.status, secret), (200, Some(64)), "{}", made.body);
    let id: String =
        sqlx::query_scalar("select action_id from actions.actions where project_id = 'q'").fetch_one(&site.stack.ops).await.unwrap();
    let page = format!("/actions/{id}");
    let seen = admin.get(&page).await;
    assert!(seen.body.contains("&lt;b&gt;Gate") && !seen.body.contains("<b>Gate") && !seen.body.contains("asec_"), "{}", seen.body);

    let renamed = admin
        .post(&format!("{page}/edit"), &[("csrf_token", &csrf), ("name", "Gate"), ("timeout_ms", "soon"), ("endpoint_url", &url)])
        .await;
    assert!(renamed.status == 422 && renamed.body.contains("timeout_ms"), "{}", renamed.body);
    let renamed = admin
        .post(&format!("{page}/edit"), &[("csrf_token", &csrf), ("name", "Gate"), ("timeout_ms", "900"), ("endpoint_url", &url)])
        .await;
    assert_eq!(renamed.status, 303, "{}", renamed.body);
    assert!(admin.get(&page).await.body.contains("Restore this version"));
    assert_eq!(admin.post(&format!("{page}/restore"), &[("csrf_token", &csrf), ("version", "1")]).await.status, 303);
    let now: Value = sqlx::query_scalar("select row_to_json(a) from actions.actions as a where action_id = $1")
        .bind(&id)
        .fetch_one(&site.stack.ops)
        .await
        .unwrap();
    assert_eq!((&now["name"], &now["timeout_ms"], &now["version"]), (&Value::from("<b>Gate</b>"), &Value::from(1500), &Value::from(3)));

    let sent = admin.post(&format!("{page}/test"), &[("csrf_token", &csrf)]).await;
    assert_eq!(sent.status, 303);
    until(&site.stack.ops, "it ended", "select count(*) > 0 from actions.recent_invocations where test and finished_at is not null").await;
    let invocation = admin.get(sent.header("location")).await;
    assert!(invocation.body.contains("first_byte") && invocation.body.contains("Timeline"), "{}", invocation.body);
    let file = admin.get(&format!("{page}?format=csv")).await;
    assert!(
        file.header("content-type").starts_with("text/csv")
            && file.body.contains("inv_")
            && file.body.starts_with("invocation_id,event_id,"),
        "{}",
        file.body
    );

    let rotated = admin.post(&format!("{page}/rotate"), &[("csrf_token", &csrf)]).await;
    assert!(rotated.body.contains("asec_") && rotated.body != made.body);
    // What cannot be undone is asked first, also of a form that did not ask.
    for (change, name) in [("finish", "Finish rotation"), ("delete", "Delete")] {
        let asked = admin.post(&format!("{page}/{change}"), &[("csrf_token", &csrf)]).await;
        assert!(asked.status == 200 && asked.body.contains(name) && asked.body.contains("cannot be undone"), "{}", asked.body);
        assert_eq!(admin.post(&format!("{page}/{change}"), &[("csrf_token", &csrf), ("confirmed", "yes")]).await.status, 303);
    }
    assert_eq!(admin.get(&page).await.status, 404);
    let events: Vec<String> =
        sqlx::query_scalar("select event from actions.audit_log where action_id = $1 and actor = 'ada@acme.com' order by at")
            .bind(&id)
            .fetch_all(&site.stack.ops)
            .await
            .unwrap();
    for event in ["action.created", "action.updated", "action.secret_rotated", "action.deleted"] {
        assert!(events.iter().any(|one| one == event), "{event}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_started_it_on_loopback_comes_in_once_and_sees_everything() {
    let stack = answering(Reply::json("{}")).await;
    stack.project("p").await;
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    let event = enqueue(&stack.core, "p", "pre_register", "{}").await;
    let metrics = scrape::free_address();
    let (mut console, address) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local"), ("ACTIONS_METRICS__LISTEN", &metrics)]).await;
    let line = console.said("Open the console").await;
    let token = line.rsplit_once("/enter/").unwrap().1.trim().to_owned();
    assert!(!console.log().contains(&token), "the log is read by others");
    let mut browser = Browser::new(&address);
    assert_eq!(browser.get(&format!("/enter/{token}")).await.status, 303);
    is_forbidden(&Browser::new(&address).get(&format!("/enter/{token}")).await);
    let seen = browser.get("/").await;
    for word in ["The fleet is", "What needs a person", "Traffic", "select * from actions.queue_health"] {
        assert!(seen.body.contains(word), "{word}: {}", seen.body);
    }
    for (query, found) in [(&event.event_id, event.id()), (&HOST.to_owned(), "/actions/action_"), (&"p".to_owned(), "/projects/p")] {
        let seen = browser.get(&format!("/search?q={query}")).await;
        assert!(seen.body.contains(found), "{query}: {}", seen.body);
    }
    assert_eq!(browser.get(&format!("/search?q={}", event.id())).await.header("location"), format!("/invocations/{}", event.id()));
    assert!(browser.get("/audit").await.body.contains("action.created"));
    assert_eq!(scrape::value(&metrics, "actions_console_requests_total{code=\"403\"}").await, 1.0);
    assert!(scrape::value(&metrics, "actions_console_requests_total{code=\"200\"}").await >= 5.0);
    // Elsewhere than on this machine the cookie goes by TLS alone.
    let (_away, address) = stack.console(&[("ACTIONS_CONSOLE__PUBLIC_URL", "http://actions.authio.example")]).await;
    let operator = Operator { environment: stack.environment("ops", &[]) };
    let output = operator.run(&["console", "link", "--project", "p", "--email", "a@acme.com", "--role", "viewer"]).await;
    let token = text(&output).trim().rsplit_once("/enter/").unwrap().1.to_owned();
    let seen = Browser::new(&address).get(&format!("/enter/{token}")).await;
    assert!(seen.header("set-cookie").contains("; Secure"), "{}", seen.header("set-cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_an_endpoint_shows_what_would_be_applied_and_changes_nothing() {
    let site = site().await;
    let mut viewer = site.person("p", "viewer").await;
    let form = viewer.get("/try").await;
    for label in ["Trigger", "Endpoint URL", "Secret", "Event"] {
        assert!(form.body.contains(label), "{label}");
    }
    let (csrf, url, secret) = (form.csrf(), site.stack.endpoint.url("/"), format!("asec_{}", "5".repeat(64)));
    let fields = |url, event| {
        [("csrf_token", csrf.as_str()), ("trigger", "pre_register"), ("endpoint_url", url), ("secret", secret.as_str()), ("event", event)]
    };
    let tried = viewer.post("/try", &fields(&url, r#"{"user":{"email":"x@y.z"}}"#)).await;
    assert!(tried.status == 200 && tried.body.contains("first_byte") && tried.body.contains("auth-core would"), "{}", tried.body);
    assert!(!tried.body.contains(&secret), "the secret is not sent back");
    let sent = &site.stack.endpoint.requests()[0];
    assert!(sent.json()["user"]["email"] == "x@y.z" && sent.header("authio-signature").starts_with("t="), "{sent:?}");
    // The rules of the fleet, without the exception that a person's own machine has.
    let inside = viewer.post("/try", &fields("http://127.0.0.1/", "{}")).await;
    assert!(inside.body.contains("ssrf_blocked"), "{}", inside.body);
    let wrong = viewer.post("/try", &fields(&url, "[1]")).await;
    assert!(wrong.body.contains("accepted is a JSON object"), "{}", wrong.body);
    is_forbidden(&viewer.post("/try", &[("trigger", "pre_register"), ("endpoint_url", &url)]).await);
    assert_eq!(site.stack.endpoint.requests().len(), 1);
    let written: i64 = sqlx::query_scalar("select count(*) from actions.recent_invocations").fetch_one(&site.stack.ops).await.unwrap();
    assert_eq!(written, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_invocations_are_filtered_paused_and_given_as_files() {
    let site = site().await;
    let mut viewer = site.person("p", "viewer").await;
    let event = enqueue(&site.stack.core, "p", "pre_register", "{}").await;
    for page in [format!("/actions/{}", site.action), "/projects/p".to_owned()] {
        let seen = viewer.get(&page).await;
        assert!(seen.body.contains("sse-connect") && seen.body.contains("Pause") && seen.body.contains(event.id()), "{}", seen.body);
        let paused = viewer.get(&format!("{page}?pause=yes")).await;
        assert!(!paused.body.contains("sse-connect") && paused.body.contains("Go on"));
        for (filter, is_shown) in [
            ("status=queued", true),
            ("status=ok", false),
            ("trigger=pre_register", true),
            ("trigger=post_register", false),
            ("test=true", false),
            ("override=false", true),
            ("since=1h", true),
        ] {
            for format in ["", "&format=csv"] {
                let found = viewer.get(&format!("{page}?{filter}{format}")).await.body.contains(event.id());
                assert_eq!(found, is_shown, "{page}?{filter}{format}");
            }
        }
        for (wrong, accepted) in [
            ("since=soon", "accepted are 30m"),
            ("status=nice", "queued, running, ok"),
            ("test=perhaps", "true, false"),
            ("trigger=never", "pre_authenticate"),
        ] {
            let seen = viewer.get(&format!("{page}?{wrong}")).await;
            assert!(seen.status == 422 && seen.body.contains(accepted), "{wrong}: {}", seen.body);
        }
        let columns: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns
             where table_schema = 'actions' and table_name = 'recent_invocations' order by ordinal_position",
        )
        .fetch_all(&site.stack.database.owner().await)
        .await
        .unwrap();
        let file = viewer.get(&format!("{page}?format=csv")).await.body;
        assert_eq!(file.lines().next().unwrap(), columns.join(","));
        let row: Vec<&str> = file.lines().nth(1).unwrap().split(',').collect();
        assert_eq!((row[0], row[7], row[12]), (event.id(), "", "false"), "{file}");
    }
    // A list of everybody's is for operators alone.
    let all = viewer.get("/invocations").await;
    assert!(!all.body.contains(event.id()) && all.body.contains("/projects/p"), "{}", all.body);
    assert_eq!(viewer.get("/invocations/live").await.status, 404);
    assert_eq!(viewer.get("/projects/q/live").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_comes_by_itself_until_somebody_signs_out() {
    let site = site().await;
    let mut viewer = site.person("p", "viewer").await;
    let csrf = viewer.get("/").await.csrf();
    let mut lists = Vec::new();
    for page in [format!("/actions/{}/live", site.action), "/projects/p/live?status=queued".to_owned()] {
        lists.push(viewer.watch(&page).await);
    }
    for list in &mut lists {
        list.says("None.").await;
    }
    let event = enqueue(&site.stack.core, "p", "pre_register", "{}").await;
    for list in &mut lists {
        list.says(event.id()).await;
    }
    assert_eq!(viewer.post("/sign-out", &[("csrf_token", &csrf)]).await.status, 303);
    for list in lists {
        list.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_people_of_a_project_are_edited_by_those_who_may() {
    let site = site().await;
    let mut admin = site.person("p", "admin").await;
    let csrf = admin.get("/projects/p").await.csrf();
    let post = |change: &str, name: &'static str, value: &'static str| {
        let (path, csrf) = (format!("/projects/p/{change}"), csrf.clone());
        (path, [("csrf_token", csrf), (name, value.to_owned())])
    };
    for (change, name, value, status, told) in [
        ("roles", "role_slugs", "member\n\n auditor \n", 303, ""),
        ("members", "members", "ada@acme.com owner\nBob@acme.com viewer\n", 303, ""),
        ("members", "members", "ada@acme.com", 422, "an address and a role"),
        ("members", "members", "nobody owner", 422, "email"),
        ("override", "roles_action_override", "perhaps", 422, "accepted: true, false"),
        ("other", "x", "y", 404, "no such page"),
    ] {
        let (path, fields) = post(change, name, value);
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let seen = admin.post(&path, &fields).await;
        assert!(seen.status == status && seen.body.contains(told), "{change} {value:?}: {} {}", seen.status, seen.body);
    }
    let page = admin.get("/projects/p").await.body;
    for word in ["auditor, member", "ada@acme.com", "Bob@acme.com viewer"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let mut viewer = site.person("p", "viewer").await;
    let csrf = viewer.get("/projects/p").await.csrf();
    for change in ["roles", "members", "override"] {
        is_forbidden(&viewer.post(&format!("/projects/p/{change}"), &[("csrf_token", &csrf)]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_judged_while_it_is_typed() {
    let site = site().await;
    assert_eq!(Browser::new(&site.address).get("/endpoint-url?endpoint_url=x").await.status, 401);
    let mut viewer = site.person("p", "viewer").await;
    for (url, said) in [
        ("https%3A%2F%2F10.0.0.7%2F", "ssrf_blocked"),
        ("http%3A%2F%2Fhooks.acme.com%2F", "invalid"),
        ("https%3A%2F%2Fa%3Ab%40hooks.acme.com%2F", "invalid"),
        (&site.stack.endpoint.url("/").replace(':', "%3A"), "allowed"),
    ] {
        let seen = viewer.get(&format!("/endpoint-url?endpoint_url={url}")).await;
        assert!(seen.status == 200 && seen.body.contains(said), "{url}: {}", seen.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_form_what_is_stale_and_what_is_anothers_tells_and_changes_nothing() {
    let site = site().await;
    let (mut viewer, mut admin) = (site.person("p", "viewer").await, site.person("p", "admin").await);
    let page = format!("/actions/{}", site.action);
    for (kind, body) in [("application/json", "{}"), ("text/plain", "x"), ("", "")] {
        is_forbidden(&admin.post_as(&format!("{page}/disable"), kind, body).await);
    }
    // A preview of a link does not use it up.
    let token = site.link("p", "viewer", "15m").await;
    let mut somebody = Browser::new(&site.address);
    assert_eq!(somebody.head(&format!("/enter/{token}")).await.status, 405);
    assert_eq!(somebody.get(&format!("/enter/{token}")).await.status, 303);
    // A page that is loaded again does not rotate again, and a second rotation asks first.
    let csrf = admin.get(&page).await.csrf();
    let rotate = format!("{page}/rotate");
    let version = |version: &'static str| [("csrf_token", csrf.clone()), ("secret_version", version.to_owned())];
    let post = async |admin: &mut Browser, version: [(&str, String); 2]| {
        admin.post(&rotate, &version.each_ref().map(|(name, value)| (*name, value.as_str()))).await
    };
    assert!(post(&mut admin, version("1")).await.body.contains("asec_"));
    let again = post(&mut admin, version("1")).await;
    assert!(again.status == 422 && again.body.contains("rotated meanwhile") && !again.body.contains("asec_"), "{}", again.body);
    let asked = post(&mut admin, version("2")).await;
    assert!(asked.body.contains("stops counting at once") && !asked.body.contains("asec_"), "{}", asked.body);
    // What is another project's reads like what is not there, and the fleet's troubles may name others.
    site.stack.action("q", "pre_register", &site.stack.endpoint.url("/"), "").await;
    let others = enqueue(&site.stack.core, "q", "pre_register", "{}").await;
    let (other, none) =
        (viewer.get(&format!("/search?q={}", others.id())).await, viewer.get("/search?q=inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B").await);
    assert_eq!((other.status, none.status), (200, 200));
    assert!(!other.body.contains("/invocations/inv_"), "{}", other.body);
    assert!(!viewer.get("/").await.body.contains("no worker is alive"));
    for path in ["/projects/%00", "/actions/%00", "/search?q=%00", "/projects/nowhere?format=csv", "/projects/nowhere/live"] {
        let status = viewer.get(path).await.status;
        assert!([404, 422].contains(&status), "{path}: {status}");
    }
    let since = viewer.get("/audit?project=p&since=1h").await;
    assert!(since.status == 200 && since.body.contains("action.created"), "{}", since.body);
    assert_eq!(viewer.get("/audit?project=p&since=soon").await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_needs_its_token_and_the_right_and_every_page_somebody_who_may_see_it() {
    let site = site().await;
    let event = enqueue(&site.stack.core, "p", "pre_register", "{}").await;
    let (mut viewer, mut admin) = (site.person("p", "viewer").await, site.person("p", "admin").await);
    let mut other = site.person("q", "owner").await;
    let action = format!("/actions/{}", site.action);
    let changes = ["edit", "candidate", "replay", "condition"].into_iter().chain([
        "test", "enable", "disable", "kill", "reenable", "rotate", "finish", "secret", "restore", "promote", "withdraw", "forget", "delete",
    ]);
    let mut posts: Vec<String> = changes.map(|change| format!("{action}/{change}")).collect();
    posts.extend(["actions/new", "override", "roles", "members", "break-glass"].map(|change| format!("/projects/p/{change}")));
    let written =
        async || -> i64 { sqlx::query_scalar("select count(*) from actions.audit_log").fetch_one(&site.stack.ops).await.unwrap() };
    let before = written().await;
    let (viewers, others) = (viewer.get("/").await.csrf(), other.get("/").await.csrf());
    for path in &posts {
        for (who, browser, fields, status) in [
            ("nobody", &mut Browser::new(&site.address), vec![("confirmed", "yes")], 401),
            ("an admin without a token", &mut admin.clone(), vec![("confirmed", "yes")], 403),
            ("an admin with another's token", &mut admin.clone(), vec![("csrf_token", viewers.as_str()), ("confirmed", "yes")], 403),
            ("a viewer", &mut viewer, vec![("csrf_token", viewers.as_str()), ("confirmed", "yes")], 403),
            ("an owner of another project", &mut other, vec![("csrf_token", others.as_str()), ("confirmed", "yes")], 404),
        ] {
            assert_eq!(browser.post(path, &fields).await.status, status, "{who} at {path}");
        }
    }
    assert_eq!(written().await, before, "nothing was changed");
    let pages = [action.clone(), "/projects/p".to_owned(), format!("/invocations/{}", event.id()), "/audit?project=p".to_owned()];
    let forms = ["edit", "candidate", "replay", "delete"].map(|form| format!("{action}/{form}"));
    for (path, viewers) in pages.iter().map(|path| (path, 200)).chain(forms.iter().map(|path| (path, 403))) {
        let seen = [
            Browser::new(&site.address).get(path).await.status,
            viewer.get(path).await.status,
            admin.get(path).await.status,
            other.get(path).await.status,
        ];
        assert_eq!(seen, [401, viewers, 200, 404], "{path}");
    }
}

/// A console where people sign in at a provider, and how far somebody with these claims comes.
async fn signed_in(address: &str, provider: &Provider, claims: &Value) -> (Browser, Seen) {
    let mut browser = Browser::new(address);
    let leaving = browser.get("/sign-in").await;
    assert_eq!(leaving.status, 303, "{}", leaving.body);
    let to = url::Url::parse(leaving.header("location")).unwrap();
    let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let seen = browser.get(&format!("/sign-in/back?code={}&state={state}", provider.code(&to, claims))).await;
    (browser, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_their_provider_and_what_it_has_not_verified_opens_nothing() {
    let stack = answering(Reply::json("{}")).await;
    for project in ["p", "q"] {
        stack.project(project).await;
    }
    let members = r#"[{"email":"ada@acme.com","role":"owner"}]"#;
    sqlx::query("select actions.set_project_members('p', $1::json)").bind(members).execute(&stack.admin).await.unwrap();
    let provider = Provider::start().await;
    let (console, address) = stack
        .console(&[
            ("ACTIONS_CONSOLE__OIDC__ISSUER", &provider.issuer),
            ("ACTIONS_CONSOLE__OIDC__CLIENT_ID", CLIENT.0),
            ("ACTIONS_CONSOLE__OIDC__CLIENT_SECRET", CLIENT.1),
            ("ACTIONS_CONSOLE__OIDC__OPERATORS_GROUP", "actions-operators"),
        ])
        .await;
    let ada = json!({"email": "Ada@acme.com", "email_verified": true, "groups": ["others"]});
    let (mut browser, seen) = signed_in(&address, &provider, &ada).await;
    assert_eq!((seen.status, seen.header("location")), (303, "/"), "{} {}", seen.body, console.log());
    assert_eq!((browser.get("/projects/p").await.status, browser.get("/projects/q").await.status), (200, 404));
    let operator = json!({"email": "ops@authio.example", "email_verified": true, "groups": ["actions-operators"]});
    let (mut browser, _) = signed_in(&address, &provider, &operator).await;
    assert_eq!((browser.get("/projects/p").await.status, browser.get("/projects/q").await.status), (200, 200));

    // An address that is not verified, and tokens that are not for us, not of now, or not of this request.
    let with = |name: &str, value: Value| {
        let mut claims = ada.clone();
        claims[name] = value;
        claims
    };
    for (claims, status) in [
        (with("email_verified", json!(false)), 403),
        (json!({"email": "ada@acme.com"}), 403),
        (with("nonce", json!("another")), 502),
        (with("aud", json!("another")), 502),
        (with("iss", json!("http://127.0.0.1:1")), 502),
        (with("exp", json!(1)), 502),
    ] {
        let (mut browser, seen) = signed_in(&address, &provider, &claims).await;
        assert_eq!(seen.status, status, "{claims}");
        assert_eq!(browser.get("/projects").await.status, 401, "{claims}");
    }
    // Somebody else's browser, or another state.
    let mut browser = Browser::new(&address);
    let leaving = browser.get("/sign-in").await;
    let to = url::Url::parse(leaving.header("location")).unwrap();
    let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let back = |state: &str| format!("/sign-in/back?code={}&state={state}", provider.code(&to, &ada));
    is_forbidden(&Browser::new(&address).get(&back(&state)).await);
    is_forbidden(&browser.get(&back("x")).await);
    assert_eq!(browser.get(&back(&state)).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_shows_what_was_sent_what_was_dropped_and_what_to_do() {
    let verdict = r#"{"decision":"allow","override_roles":["member","<i>emperor</i>"]}"#;
    let stack = by_path(move |path| if path == "/down" { Reply::with_status(503, "") } else { Reply::json(verdict) }).await;
    for (project, path) in [("p", "/"), ("q", "/down")] {
        stack.project(project).await;
        stack.action(project, "pre_token_mint", &stack.endpoint.url(path), "").await;
    }
    let _worker = stack.worker(&[]).await;
    let (mut console, address) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local")]).await;
    let link = console.said("Open the console").await;
    let mut browser = Browser::new(&address);
    assert_eq!(browser.get(&format!("/enter/{}", link.rsplit_once("/enter/").unwrap().1.trim())).await.status, 303);
    for (project, shown) in [
        ("p", ["Dropped from the verdict", "&lt;i&gt;emperor", "Authio-Event-Id", "not kept"]),
        ("q", ["HTTP 503", "Look into your endpoint", "Authio-Trigger", "http_error"]),
    ] {
        let event = enqueue(&stack.core, project, "pre_token_mint", "{}").await;
        let ended = format!("select finished_at is not null from actions.recent_invocations where invocation_id = '{}'", event.id());
        until(&stack.ops, "it ended", &ended).await;
        let page = browser.get(&format!("/invocations/{}", event.id())).await.body;
        for word in shown {
            assert!(page.contains(word), "{word}: {page}");
        }
        assert!(!page.contains("<i>emperor"));
    }
}

//! The console in a real browser, as people use it. Pictures of its pages are left in `target/console`.
//!
//! Left out, and told, where Chromium and its driver are not installed; `ops/test` installs them where it may.

use std::path::{Path, PathBuf};

use authio_actions_testkit::chromium::{Chromium, Window};
use authio_actions_testkit::endpoint::{HOST, Reply};
use authio_actions_testkit::provider::{CLIENT, Provider};
use authio_actions_testkit::stack::Stack;
use serde_json::json;

use crate::support::{by_path, enqueue, invoke, until};

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name)
}

async fn chromium() -> Option<Chromium> {
    let chromium = Chromium::start().await;
    if chromium.is_none() {
        eprintln!("left out: Chromium is not installed (Debian: apt-get install chromium chromium-driver)");
    }
    chromium
}

/// Two projects; in one of them a gate that works, one that answers badly, and people who signed in.
async fn stack() -> Stack {
    let verdict = r#"{"decision":"allow","override_roles":["member","<i>emperor</i>"],"override_claims":{"plan":"gold"}}"#;
    let stack = by_path(move |path| match path {
        "/broken" => Reply::with_status(503, ""),
        "/deny" => Reply::json(r#"{"decision":"deny","deny_code":"no"}"#),
        _ => Reply::json(verdict),
    })
    .await;
    for project in ["acme", "globex"] {
        stack.project(project).await;
    }
    stack
}

async fn came_in(window: &Window, link: &str) {
    window.open(&format!("/enter/{link}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_makes_watches_breaks_mends_and_tries_an_action() {
    let Some(chromium) = chromium().await else { return };
    let stack = stack().await;
    let _worker = stack.worker(&[]).await;
    let (mut console, address) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local")]).await;
    let link = console.said("Open the console").await;
    let window = chromium.window(&address, true).await;
    came_in(&window, link.rsplit_once("/enter/").unwrap().1.trim()).await;
    window.sees("The fleet is").await;

    // Creates it, with a URL that is judged as it is typed and a field that is wrong at first.
    window.press("Projects").await;
    window.press("acme").await;
    window.press("Create action").await;
    window.fill("Trigger", "pre_token_mint").await;
    window.fill("Name", "Plan of <b>Acme</b>").await;
    window.fill("Endpoint URL", "https://10.0.0.7/").await;
    window.sees("ssrf_blocked").await;
    window.fill("Endpoint URL", &stack.endpoint.url("/")).await;
    window.find("//span[@class='good' and .='allowed']").await;
    window.fill("Timeout", "7000").await;
    window.press("Create action").await;
    window.find("//label[starts-with(.,'Timeout')]//*[@role='alert' and contains(.,'7000')]").await;
    window.fill("Timeout", "1500").await;
    window.press("Create action").await;
    window.sees("asec_").await;
    window.press("To the action").await;
    window.sees("Plan of <b>Acme</b>").await;
    let page = window.path().await;

    // Sees what happens without touching anything, and pauses it.
    let first = invoke(&stack, "acme", "pre_token_mint").await;
    window.find(&format!("//a[.='{}']", first.id())).await;
    window.press("Pause").await;
    window.press("Go on").await;

    // Looks into one: what was sent, when, and what was dropped.
    window.press(first.id()).await;
    for text in ["Timeline", "first_byte", "written", "Authio-Event-Id", "<i>emperor</i>", "gold"] {
        window.sees(text).await;
    }
    window.open(&page).await;

    // A test event, a rotation in steps, and the secret again.
    window.press("Send test event").await;
    window.press("Send test event").await;
    window.sees("Timeline").await;
    window.open(&page).await;
    window.press("Rotate secret").await;
    window.press("Rotate secret").await;
    window.sees("asec_").await;
    window.press("To the action").await;
    window.sees("Put the new secret into your endpoint").await;
    window.press("Finish rotation").await;
    window.sees("cannot be undone").await;
    window.press("Finish rotation").await;

    // Tries a change in the shadow, sees what would differ, and leaves it at that.
    window.press("Stage candidate").await;
    window.fill("Endpoint URL", &stack.endpoint.url("/deny")).await;
    window.fill("Percent", "0").await;
    window.press("Stage candidate").await;
    window.sees("percent is 0").await;
    window.fill("Percent", "100").await;
    window.press("Stage candidate").await;
    let tried = invoke(&stack, "acme", "pre_token_mint").await;
    until(&stack.ops, "it was compared", "select calls = 1 from actions.candidates").await;
    window.open(&page).await;
    window.find("//td[.='decision, code, claims, roles']").await;
    window.press(tried.id()).await;
    window.sees("which decided nothing").await;
    window.open(&page).await;
    window.press("Withdraw").await;
    window.press("Withdraw").await;
    window.sees("withdrawn by hand").await;

    // Meant for some events alone; what PostgreSQL cannot read stands next to its field.
    window.press("Edit").await;
    window.fill("Condition", "$.user ==").await;
    window.press("Save").await;
    window.find("//label[starts-with(normalize-space(),'Condition')]//*[@role='alert']").await;
    window.fill("Condition", "exists($.user)").await;
    window.fill("Record events", "10").await;
    window.press("Save").await;
    window.sees("exists($.user)").await;

    // What was recorded is sent again, and tells what a condition would leave out.
    invoke(&stack, "acme", "pre_token_mint").await;
    until(&stack.ops, "it is recorded", "select count(*) = 1 from actions.recorded_events").await;
    window.press("Replay").await;
    window.press("Replay").await;
    window.sees("1 sent again: 1 the same, 0 differ.").await;
    window.press("To the action").await;
    window.press("Edit").await;
    window.fill("Condition", "$.user.id == \"nobody\"").await;
    window.press("Try condition").await;
    window.sees("0 of the last 1 recorded events meet it").await;
    window.open(&page).await;

    // Breaks it, sees why, and goes back to the version before.
    window.press("Edit").await;
    window.fill("Endpoint URL", &stack.endpoint.url("/broken")).await;
    window.press("Save").await;
    window.sees("/broken").await;
    let second = invoke(&stack, "acme", "pre_token_mint").await;
    window.press(second.id()).await;
    window.sees("HTTP 503").await;
    window.sees("Look into your endpoint").await;
    window.open(&page).await;
    window.fill("Status", "http_error").await;
    window.press("Filter").await;
    window.find("//option[@value='http_error' and @selected]").await;
    assert!(window.path().await.contains("status=http_error"), "a filter lives in the URL");
    window.find(&format!("//a[.='{}']", second.id())).await;
    window.press("Restore this version").await;
    window.find("//ins[contains(.,'https://') and not(contains(.,'broken'))]").await;
    window.press("Kill").await;
    window.fill("Reason", "it answers badly").await;
    window.press("Kill").await;
    window.sees("it answers badly").await;
    window.press("Overview").await;
    window.find("//h2[.='What needs a person']/following::td[contains(.,'it answers badly')]").await;
    window.open(&page).await;
    window.press("Re-enable").await;
    window.press("Re-enable").await;
    window.press("Disable").await;
    window.press("Disable").await;
    window.sees("disabled").await;
    window.press("Enable").await;
    window.press("Enable").await;

    // Tries another endpoint, finds things again, reads who did what, and deletes the action.
    window.press("Try").await;
    window.fill("Endpoint URL", &stack.endpoint.url("/")).await;
    window.fill("Secret", &format!("asec_{}", "5".repeat(64))).await;
    window.find("//main//button[.='Try']").await.click().await.unwrap();
    window.sees("auth-core would").await;
    window.fill("Search", HOST).await;
    window.keys("\u{e007}").await;
    window.press(page.trim_start_matches("/actions/")).await;
    window.press("Audit log of this action").await;
    for event in ["action.created", "action.secret_rotated", "action.killed", "action.reenabled"] {
        window.sees(event).await;
    }
    window.open(&page).await;
    window.press("Delete").await;
    window.press("Delete").await;
    window.sees("None yet").await;
    // It is about what was typed wrong on purpose, and nothing else.
    let complaints = window.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("422")), "{complaints:?}");
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_javascript_a_member_signs_in_at_a_provider_and_does_the_same() {
    let Some(chromium) = chromium().await else { return };
    let stack = stack().await;
    let _worker = stack.worker(&[]).await;
    let provider = Provider::start().await;
    provider.knows(json!({"email": "ada@acme.com", "email_verified": true}));
    sqlx::query(r#"select actions.set_project_members('acme', '[{"email":"ada@acme.com","role":"admin"}]')"#)
        .execute(&stack.admin)
        .await
        .unwrap();
    let (_console, address) = stack
        .console(&[
            ("ACTIONS_CONSOLE__OIDC__ISSUER", &provider.issuer),
            ("ACTIONS_CONSOLE__OIDC__CLIENT_ID", CLIENT.0),
            ("ACTIONS_CONSOLE__OIDC__CLIENT_SECRET", CLIENT.1),
        ])
        .await;
    let window = chromium.window(&address, false).await;
    window.open("/").await;
    window.press("Sign in").await;
    window.press("ada@acme.com").await;
    window.sees("The fleet is").await;
    window.press("Projects").await;
    assert!(!window.text().await.contains("globex"));
    window.press("acme").await;
    window.press("Edit Role slugs").await;
    window.fill("Role slugs", "member\nowner").await;
    window.press("Save").await;
    window.sees("member, owner").await;
    window.press("Create action").await;
    window.fill("Trigger", "pre_token_mint").await;
    window.fill("Name", "Gate").await;
    window.fill("Endpoint URL", &stack.endpoint.url("/")).await;
    window.press("Create action").await;
    window.sees("asec_").await;
    window.press("To the action").await;
    let event = invoke(&stack, "acme", "pre_token_mint").await;
    let page = window.path().await;
    window.open(&page).await;
    window.press(event.id()).await;
    window.sees("Dropped from the verdict").await;
    window.press("Sign out").await;
    window.open(&page).await;
    window.press("Sign in").await;
    window.close().await;
}

/// Everything that a page can show, for a look at it.
async fn furnished(stack: &Stack) -> (String, String) {
    let gate = stack.action("acme", "pre_token_mint", &stack.endpoint.url("/"), "").await;
    let broken = stack.action("acme", "pre_register", &stack.endpoint.url("/broken"), "").await;
    for _ in 0..8 {
        enqueue(&stack.core, "acme", "pre_token_mint", "{}").await;
        enqueue(&stack.core, "acme", "pre_register", "{}").await;
    }
    until(&stack.ops, "all ended", "select count(*) = 16 from actions.recent_invocations where finished_at is not null").await;
    for change in [
                r#"select actions.set_project_members('acme', '[{"email":"ada@acme.com","role":"owner"},{"email":"bob@acme.com","role":"viewer"}]', 'grace@acme.com')"#.to_owned(),
        format!("select actions.update_action('{gate}', '{{\"name\": \"Plan and roles\", \"timeout_ms\": 1500, \"fail_mode\": \"closed\"}}', 'ada@acme.com')"),
        format!("select actions.update_action('{broken}', '{{\"name\": \"Sign-up gate\"}}', 'ada@acme.com')"),
        format!("select actions.rotate_secret('{gate}', 'ada@acme.com')"),
        format!("select actions.kill_action('{broken}', 'every call fails', 'grace@acme.com')"),

    ] {
        sqlx::query(&change).execute(&stack.admin).await.unwrap();
    }
    // A day as it could have been, and a mail that nobody takes.
    let owner = stack.database.owner().await;
    for sql in [
        "insert into actions_private.traffic (minute, statuses, called, call_p50_ms, call_p99_ms, overhead_p50_ms, overhead_p99_ms)
         select date_trunc('minute', now()) - n * interval '1 minute',
           json_build_object('ok', 3000 + (1200 * sin(n / 9.0))::int, 'rejected', 60 + n % 7, 'timeout', case when n between 18 and 22 then 240 else n % 4 end),
           3000, 21 + 3 * sin(n / 7.0), 64 + 20 * sin(n / 5.0) + case when n between 18 and 22 then 180 else 0 end, 1.3 + 0.2 * sin(n / 3.0), 3.4 + 0.8 * sin(n / 4.0)
         from generate_series(5, 1500) as n on conflict do nothing",
        "update actions_private.mail_outbox set attempts = 3, last_error = '421 try again later', next_attempt_at = now() + interval '1 hour'",
    ] {
        sqlx::query(sql).execute(&owner).await.unwrap();
    }
    let event: String = sqlx::query_scalar("select invocation_id from actions.recent_invocations where action_id = $1 limit 1")
        .bind(&gate)
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    (gate, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_can_be_read_by_everybody_on_a_telephone_in_the_dark_and_on_paper() {
    let Some(chromium) = chromium().await else { return };
    let axe = std::fs::read_to_string(target("axe/axe.min.js"));
    if axe.is_err() {
        eprintln!("left out: axe is not at target/axe/axe.min.js (ops/axe fetches it)");
    }
    let stack = stack().await;
    let _worker = stack.worker(&[]).await;
    let _janitor = stack.janitor(&[]).await;
    let (gate, event) = furnished(&stack).await;
    let (mut console, address) = stack.console(&[("ACTIONS_CONSOLE__LOGIN", "local")]).await;
    let link = console.said("Open the console").await;
    let window = chromium.window(&address, true).await;
    came_in(&window, link.rsplit_once("/enter/").unwrap().1.trim()).await;
    let mut wrong = Vec::new();
    for (name, path) in [
        ("overview", "/?window=24h".to_owned()),
        ("projects", "/projects".to_owned()),
        ("project", "/projects/acme".to_owned()),
        ("new-action", "/projects/acme/actions/new".to_owned()),
        ("action", format!("/actions/{gate}?pause=yes")),
        ("edit-action", format!("/actions/{gate}/edit")),
        ("stage-candidate", format!("/actions/{gate}/candidate")),
        ("delete-action", format!("/actions/{gate}/delete")),
        ("invocation", format!("/invocations/{event}")),
        ("invocations", "/invocations?pause=yes".to_owned()),
        ("audit", "/audit".to_owned()),
        ("try", "/try".to_owned()),
        ("search", "/search?q=acme".to_owned()),
        ("not-found", "/projects/nowhere".to_owned()),
    ] {
        for (look, width, media, is_dark) in
            [("", 1200, "screen", false), ("-dark-360", 360, "screen", true), ("-print", 800, "print", false)]
        {
            window.width(width).await;
            window.media(media, is_dark).await;
            window.open(&path).await;
            window.find("//h1").await;
            window.picture(&target(&format!("console/{name}{look}.png"))).await;
            let overhang = window.overhang().await;
            if overhang > 0 {
                wrong.push(format!("{name}{look}: {overhang} pixels too wide"));
            }
            if let (Ok(axe), "screen") = (&axe, media) {
                wrong.extend(window.violations(axe).await.into_iter().map(|what| format!("{name}{look}: {what}")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // By keyboard alone: the first stop leads past the navigation, the second into it.
    window.media("screen", false).await;
    window.open("/").await;
    window.keys("\u{e004}").await;
    assert_eq!(window.focused().await, "To the content");
    window.keys("\u{e004}").await;
    window.keys("\u{e004}").await;
    assert_eq!(window.focused().await, "Projects");
    window.keys("\u{e007}").await;
    window.find("//h1[.='Projects']").await;
    let complaints = window.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("404")), "{complaints:?}");
    window.close().await;
}

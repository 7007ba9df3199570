//! The story, step by step.

use std::time::Instant;

use authio_actions::client::{Answer, Client, Options};
use authio_actions::domain::{Decision, Status, Trigger};
use authio_actions_testkit::mail_server::MailServer;
use authio_actions_testkit::receiver;
use authio_actions_testkit::stack::Stack;
use serde_json::{Value, json};
use sqlx::Row;

use crate::auth_core::{TokenMint, forbidden};
use crate::endpoint;
use crate::screen::Screen;

/// One step: who asks, where it goes, and how the action is set up.
struct Step {
    title: &'static str,
    project: &'static str,
    trigger: Trigger,
    path: &'static str,
    settings: &'static str,
    /// What must come of it; anything else ends the demo with an error.
    expect: (Status, Decision),
}

const ALLOWED: (Status, Decision) = (Status::Ok, Decision::Allow);

const WALK: [Step; 6] = [
    Step {
        title: "Alice signs up: pre_register",
        project: "acme",
        trigger: Trigger::PreRegister,
        path: "/ok",
        settings: "",
        expect: ALLOWED,
    },
    Step {
        title: "Her account is stored: post_register (informational)",
        project: "acme",
        trigger: Trigger::PostRegister,
        path: "/ok",
        settings: "",
        expect: ALLOWED,
    },
    Step {
        title: "She comes back to sign in: pre_authenticate",
        project: "acme",
        trigger: Trigger::PreAuthenticate,
        path: "/ok",
        settings: "",
        expect: ALLOWED,
    },
    Step {
        title: "Her passkey is right, but the address is odd: post_authenticate",
        project: "acme",
        trigger: Trigger::PostAuthenticate,
        path: "/fraud",
        settings: "",
        expect: (Status::Rejected, Decision::Deny),
    },
    Step {
        title: "She tries again from home: pre_token_mint",
        project: "acme",
        trigger: Trigger::PreTokenMint,
        path: "/roles",
        settings: "",
        expect: ALLOWED,
    },
    Step {
        title: "The token is on its way: post_token_mint (informational)",
        project: "acme",
        trigger: Trigger::PostTokenMint,
        path: "/ok",
        settings: "",
        expect: ALLOWED,
    },
];

const FAILURES: [Step; 4] = [
    Step {
        title: "The endpoint hangs, fail_mode = open",
        project: "slow_open",
        trigger: Trigger::PreAuthenticate,
        path: "/slow",
        settings: "timeout_ms => 300, fail_mode => 'open'",
        expect: (Status::Timeout, Decision::Allow),
    },
    Step {
        title: "The endpoint hangs, fail_mode = closed",
        project: "slow_closed",
        trigger: Trigger::PreAuthenticate,
        path: "/slow",
        settings: "timeout_ms => 300, fail_mode => 'closed'",
        expect: (Status::Timeout, Decision::Deny),
    },
    Step {
        title: "The answer is signed with a wrong secret",
        project: "forged",
        trigger: Trigger::PreAuthenticate,
        path: "/forged",
        settings: "fail_mode => 'closed'",
        expect: (Status::InvalidSignature, Decision::Deny),
    },
    Step {
        title: "The URL points at the cloud's metadata service",
        project: "ssrf",
        trigger: Trigger::PreAuthenticate,
        path: "https://169.254.169.254/latest/meta-data/",
        settings: "fail_mode => 'closed'",
        expect: (Status::SsrfBlocked, Decision::Deny),
    },
];

pub async fn run(stack: &Stack, screen: &Screen, mail_server: &MailServer) {
    let client = Client::connect(&Options::new(&stack.database.url("core"))).await.expect("auth-core's client");
    let mint = TokenMint::new();
    screen.chapter("One user, six triggers");
    for step in &WALK {
        let answer = take(stack, screen, &client, step).await;
        if step.trigger == Trigger::PreTokenMint {
            show_token(screen, &mint, &answer);
        }
    }
    screen.chapter("When the endpoint fails, the action's fail_mode decides");
    for step in &FAILURES {
        take(stack, screen, &client, step).await;
    }
    kill_switch(stack, screen, &client, mail_server).await;
}

/// Sets the action up, reports the event, and shows who saw and did what.
async fn take(stack: &Stack, screen: &Screen, client: &Client, step: &Step) -> Answer {
    stack.project(step.project).await;
    let url = if step.path.starts_with('/') { stack.endpoint.url(step.path) } else { step.path.to_owned() };
    stack.action(step.project, step.trigger.as_str(), &url, step.settings).await;
    screen.step(step.title);
    let seen_before = stack.endpoint.requests().len();
    let asked = Instant::now();
    let answer = client.invoke(step.project, step.trigger, &event(step.trigger)).await.expect("an outcome");
    let whole_ms = asked.elapsed().as_secs_f64() * 1000.0;
    assert_eq!((answer.outcome.status, answer.outcome.decision), step.expect, "{}: {:?}", step.title, answer.outcome);
    match stack.endpoint.requests().get(seen_before) {
        Some(request) => {
            let keys: Vec<String> = request.json().as_object().expect("an object").keys().cloned().collect();
            screen.fact("endpoint saw", &format!("POST {} {{{}}}", request.path, keys.join(", ")));
            let header = request.header("authio-signature");
            screen.fact("", &format!("Authio-Signature: {}… (verified)", header.chars().take(40).collect::<String>()));
            screen.fact("it answered", &endpoint::describe(&request.path));
        }
        None => screen.fact("endpoint saw", "nothing: nobody dialled it"),
    }
    act(screen, step, &answer);
    timing(stack, screen, &answer, whole_ms).await;
    answer
}

fn event(trigger: Trigger) -> Value {
    let mut event = json!({
        "user": {"id": "user_alice", "email": "alice@acme.com", "email_verified": true},
        "request": {"ip": "203.0.113.7", "user_agent": "Mozilla/5.0"},
    });
    if matches!(trigger, Trigger::PreTokenMint | Trigger::PostTokenMint) {
        event["session"] = json!({"id": "sess_1", "organization_id": "org_acme_us"});
        event["token"] = json!({"token_type": "user", "roles": ["member"], "permissions": [], "ttl_seconds": 900});
    }
    event
}

/// What auth-core does with the outcome.
fn act(screen: &Screen, step: &Step, answer: &Answer) {
    let outcome = &answer.outcome;
    screen.fact("outcome", &format!("status {}, decided by {}", outcome.status, outcome.source));
    if outcome.decision == Decision::Deny {
        screen.verdict(false, &format!("403 {}", forbidden(outcome)));
        if let Some(reason) = &outcome.reason {
            screen.fact("for the audit", reason);
        }
    } else {
        let next = match step.trigger {
            Trigger::PreRegister => "creates the account",
            Trigger::PostRegister => "sends the welcome e-mail",
            Trigger::PreAuthenticate => "asks for the passkey",
            Trigger::PostAuthenticate => "creates the session",
            Trigger::PreTokenMint => "signs the token with Acme's roles",
            Trigger::PostTokenMint => "answers 200 with the token",
        };
        screen.verdict(true, next);
    }
    for dropped in &outcome.dropped {
        let values = if dropped.values.is_empty() { String::new() } else { format!(" ({})", dropped.values.join(", ")) };
        screen.fact("dropped", &format!("{}{values}: {}", dropped.field, dropped.why));
    }
}

fn show_token(screen: &Screen, mint: &TokenMint, answer: &Answer) {
    let token = mint.mint(&answer.outcome, receiver::now());
    screen.fact("JWT", &format!("{}…", token.chars().take(56).collect::<String>()));
    let claims = mint.verified(&token);
    let claims: Vec<String> = claims.as_object().expect("an object").iter().map(|(name, value)| format!("{name}: {value}")).collect();
    screen.fact("ES256 verified", &claims.join("\n"));
}

async fn timing(stack: &Stack, screen: &Screen, answer: &Answer, whole_ms: f64) {
    let row = sqlx::query("select duration_ms, error from actions.recent_invocations where invocation_id = $1")
        .bind(&answer.invocation_id)
        .fetch_one(&stack.ops)
        .await
        .expect("the invocation's row");
    let told = answer.outcome.reason.as_deref();
    if let Some(error) = row.get::<Option<String>, _>("error").filter(|error| Some(error.as_str()) != told) {
        screen.fact("the row says", &error);
    }
    let call_ms: Option<f64> = row.get("duration_ms");
    let call = call_ms.map_or_else(|| "no call".to_owned(), |call| format!("the call {call:.1} ms"));
    screen.fact("time", &format!("{whole_ms:.1} ms end to end, {call}, the fleet {:.1} ms", whole_ms - call_ms.unwrap_or_default()));
}

async fn kill_switch(stack: &Stack, screen: &Screen, client: &Client, mail_server: &MailServer) {
    screen.chapter("An endpoint that stays broken is switched off");
    stack.project("broken").await;
    let members =
        r#"[{"email":"ada@acme.com","role":"owner"},{"email":"bob@acme.com","role":"admin"},{"email":"eve@acme.com","role":"member"}]"#;
    sqlx::query("select actions.set_project_members('broken', $1::json)").bind(members).execute(&stack.admin).await.expect("members");
    let action = stack.action("broken", "pre_authenticate", &stack.endpoint.url("/down"), "fail_mode => 'closed'").await;
    screen.step("Sign-ins meet HTTP 503 until the kill-switch trips");
    let asked = Instant::now();
    let mut sent = 0;
    let answer = loop {
        let answer = client.invoke("broken", Trigger::PreAuthenticate, &event(Trigger::PreAuthenticate)).await.expect("an outcome");
        if answer.outcome.status == Status::Killed {
            break answer;
        }
        sent += 1;
    };
    screen.fact("janitor", &format!("killed it after {sent} failures, {:.1} s after the first", asked.elapsed().as_secs_f64()));
    let reason: String = sqlx::query_scalar("select killed_reason from actions.actions where action_id = $1")
        .bind(&action)
        .fetch_one(&stack.ops)
        .await
        .expect("its reason");
    screen.fact("reason", &reason);
    screen.fact("outcome", &format!("status {}, decided by {}", answer.outcome.status, answer.outcome.source));
    screen.verdict(answer.outcome.decision == Decision::Allow, "goes on as if the action did not exist (on_killed = skip)");
    let delivered = mail_server.taken(2).await;
    let mut recipients: Vec<&str> = delivered.iter().map(|mail| mail.to.as_str()).collect();
    recipients.sort_unstable();
    let owner = stack.database.owner().await;
    let mail = sqlx::query("select subject, text_body from actions_private.mail_outbox limit 1").fetch_one(&owner).await.expect("a mail");
    screen.step("The mail, written in the transaction of the kill and delivered by SMTP");
    screen.fact("to", &recipients.join(", "));
    screen.fact("subject", mail.get("subject"));
    screen.fact("text", mail.get("text_body"));
}

//! The mail that tells people of a kill.

use authio_actions_lab::certificate::Authority;
use authio_actions_lab::endpoint::Reply;
use authio_actions_lab::mail_server::MailServer;
use authio_actions_lab::stack::Stack;
use sqlx::Executor;

use crate::support::{answering, enqueue, until};

const FROM: (&str, &str) = ("ACTIONS_SMTP__FROM", "Authio <no-reply@authio.example>");
const TICK: (&str, &str) = ("ACTIONS_KILL_SWITCH__TICK_MS", "50");
const DASHBOARD: (&str, &str) = ("ACTIONS_DASHBOARD__URL", "https://dash.example");
/// Two 503 in a row are enough here.
const STREAK: (&str, &str) = ("ACTIONS_KILL_SWITCH__CONSECUTIVE_5XX", "2");

/// A project with two people to tell and one not, whose action is killed as soon as a janitor
/// looks.
async fn about_to_be_killed() -> Stack {
    let stack = answering(Reply::with_status(503, "{}")).await;
    let _worker = stack.worker(&[]).await;
    stack.project("p").await;
    let members = r#"[{"email":"o@acme.com","role":"owner"},{"email":"a@acme.com","role":"admin"},{"email":"m@acme.com","role":"member"}]"#;
    sqlx::query("select actions.set_project_members('p', $1::json)").bind(members).execute(&stack.admin).await.unwrap();
    stack.action("p", "pre_register", &stack.endpoint.url("/"), "").await;
    for _ in 0..2 {
        enqueue(&stack.core, "p", "pre_register", "{}").await;
    }
    until(&stack.ops, "both failed", "select count(*) = 2 from actions.recent_invocations where status = 'http_error'").await;
    stack
}

async fn all_sent(stack: &Stack) {
    let owner = stack.database.owner().await;
    until(&owner, "sent", "select count(*) = 2 and bool_and(sent_at is not null) from actions_private.mail_outbox").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_is_mailed_to_owners_and_admins_once_each_over_tls_and_with_a_password() {
    let authority = Authority::default();
    let server = MailServer::start(&authority).await;
    let roots = std::env::temp_dir().join(format!("authio-actions-mail-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let stack = about_to_be_killed().await;
    let url = server.url(true);
    let trusted = ("SSL_CERT_FILE", roots.to_str().unwrap());
    let mut janitor = stack.janitor(&[TICK, STREAK, DASHBOARD, FROM, ("ACTIONS_SMTP__URL", &url), trusted]).await;
    let mails = server.taken(2).await;
    all_sent(&stack).await;
    let mut recipients: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["a@acme.com", "o@acme.com"]);
    for mail in &mails {
        assert!(mail.was_private, "TLS and the password came first");
        for words in ["Subject: Action", "no-reply@authio.example", "Message-ID: <", "text/plain", "text/html", "dash.example"] {
            assert!(mail.text.contains(words), "{words} is missing in:\n{}", mail.text);
        }
    }
    assert!(janitor.drained().await.success() && !janitor.log().contains("password"));
    assert_eq!(server.taken(2).await.len(), 2, "exactly one each");
    std::fs::remove_file(roots).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_wait_for_a_mail_server_that_is_down_ever_longer_and_are_sent_once_when_it_is_back() {
    let server = MailServer::start(&Authority::default()).await;
    server.set_down(true);
    let stack = about_to_be_killed().await;
    let owner = stack.database.owner().await;
    let url = server.url(false);
    let _janitor = stack.janitor(&[TICK, STREAK, FROM, ("ACTIONS_SMTP__URL", &url)]).await;
    // An hour of attempts, each due at once.
    for attempt in 1..=12 {
        server.refused(2 * attempt).await;
        let tried = format!("select count(*) = 2 and bool_and(attempts = {attempt}
            and abs(extract(epoch from next_attempt_at - now()) - least(5 * 2 ^ ({attempt} - 1), 600)) < least(4, 2.5 * 2 ^ ({attempt} - 1))) from actions_private.mail_outbox");
        until(&owner, "both attempts are written down", &tried).await;
        owner.execute("update actions_private.mail_outbox set next_attempt_at = now()").await.unwrap();
    }
    server.set_down(false);
    owner.execute("update actions_private.mail_outbox set next_attempt_at = now()").await.unwrap();
    server.taken(2).await;
    all_sent(&stack).await;
    assert_eq!(server.taken(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_mails_wait_and_a_later_janitor_sends_them() {
    let server = MailServer::start(&Authority::default()).await;
    let stack = about_to_be_killed().await;
    let owner = stack.database.owner().await;
    let mut first = stack.janitor(&[TICK, STREAK]).await;
    first.logged("mails wait in the outbox").await;
    until(&owner, "killed", "select count(*) = 2 from actions_private.mail_outbox where sent_at is null").await;
    assert!(first.drained().await.success());
    let url = server.url(false);
    let _second = stack.janitor(&[TICK, FROM, ("ACTIONS_SMTP__URL", &url)]).await;
    assert_eq!(server.taken(2).await.len(), 2);
    all_sent(&stack).await;
}

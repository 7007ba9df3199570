//! The mail that tells people of a kill.

use authio_actions_testkit::certificate::Authority;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::mail_server::MailServer;
use authio_actions_testkit::stack::Stack;
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
        for words in [
            "Subject: Action",
            "no-reply@authio.example",
            "Message-ID: <",
            "text/plain",
            "text/html",
            "dash.example",
            "Auto-Submitted: auto-generated",
        ] {
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

/// Each attempt waits for this one; all are due.
async fn try_now(owner: &sqlx::PgPool) {
    owner.execute("update actions_private.mail_outbox set next_attempt_at = now() where sent_at is null").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_refused_for_good_is_tried_eight_times_within_a_day_and_then_shown_as_given_up() {
    let server = MailServer::start(&Authority::default()).await;
    server.refuse("o@acme.com", "550-5.1.1 <o@acme.com>: nobody\r\n550 5.1.1 is called o here");
    let stack = about_to_be_killed().await;
    let owner = stack.database.owner().await;
    let url = server.url(false);
    let mut janitor = stack.janitor(&[TICK, STREAK, FROM, ("ACTIONS_SMTP__URL", &url)]).await;
    assert_eq!(server.taken(1).await[0].to, "a@acme.com", "nobody waits for another's mailbox");
    for refusal in 1..=8 {
        server.refused(refusal).await;
        let tried = format!(
            "select m.attempts = {refusal} and m.last_error is not null and (m.refused_at is not null) = ({refusal} = 8)
              and m.next_attempt_at - now() between '1 minute' and {refusal} * interval '1 second' + interval '5 minutes' * 2 ^ {refusal}
            from actions.mails as m where m.sent_at is null"
        );
        until(&stack.ops, "the attempt is written down, and the next one waits longer", &tried).await;
        if refusal < 8 {
            try_now(&owner).await;
        }
    }
    janitor.logged("a mail is given up").await;
    let told: (String, String) = sqlx::query_as("select recipient_domain, last_error from actions.mails where refused_at is not null")
        .fetch_one(&stack.ops)
        .await
        .unwrap();
    assert_eq!(told.0, "acme.com");
    assert!(told.1.contains("550") && told.1.contains("nobody") && !told.1.contains("o@") && told.1.lines().count() == 1, "{}", told.1);
    let health: (i64, i64) =
        sqlx::query_as("select mails_waiting, mails_refused from actions.queue_health").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(health, (0, 1));
    try_now(&owner).await;
    sqlx::query(
        "insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body)
        values ('p', 'a', 'later@acme.com', 's', 't', 'h')",
    )
    .execute(&owner)
    .await
    .unwrap();
    server.taken(2).await;
    let attempts: i32 =
        sqlx::query_scalar("select attempts from actions.mails where refused_at is not null").fetch_one(&stack.ops).await.unwrap();
    assert_eq!(attempts, 8, "what was given up is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_the_moment_is_given_up_after_three_days_of_it_and_a_day_of_refusals_is_enough() {
    let server = MailServer::start(&Authority::default()).await;
    server.refuse("young@acme.com", "451 greylisted");
    server.refuse("old@acme.com", "451 greylisted");
    server.refuse("for-good@acme.com", "553 no such mailbox");
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let insert = "insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body, refused_since, created_at)
        select 'p', 'a', m || '@acme.com', 's', 't', 'h', now() - since, now() - interval '9 days'
        from (values ('young', interval '71 hours'), ('old', interval '72 hours'), ('for-good', interval '24 hours'), ('a b', null)) as m (m, since)";
    owner.execute(insert).await.unwrap();
    let url = server.url(false);
    let _janitor = stack.janitor(&[TICK, FROM, ("ACTIONS_SMTP__URL", &url)]).await;
    let tried = "select count(*) = 4 from actions.mails where last_error is not null";
    until(&stack.ops, "each was tried", tried).await;
    let told: Vec<(String, bool, bool)> =
        sqlx::query_as("select recipient, refused_at is not null, last_error ~ 'moment' from actions_private.mail_outbox order by id")
            .fetch_all(&owner)
            .await
            .unwrap();
    let told: Vec<_> = told.iter().map(|(recipient, given_up, moment)| (recipient.as_str(), *given_up, *moment)).collect();
    assert_eq!(
        told,
        [("young@acme.com", false, true), ("old@acme.com", true, true), ("for-good@acme.com", true, false), ("a b@acme.com", false, false)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_refuses_the_password_never_makes_a_mail_be_given_up() {
    let authority = Authority::default();
    let server = MailServer::start(&authority).await;
    let roots = std::env::temp_dir().join(format!("authio-actions-mail-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let insert = "insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body, refused_since, refusals, created_at)
        values ('p', 'a', 'o@acme.com', 's', 't', 'h', now() - interval '9 days', 7, now() - interval '9 days')";
    owner.execute(insert).await.unwrap();
    let wrong = server.url(true).replace(":password@", ":hunter2@");
    let trusted = ("SSL_CERT_FILE", roots.to_str().unwrap());
    let mut janitor = stack.janitor(&[TICK, FROM, ("ACTIONS_SMTP__URL", &wrong), trusted]).await;
    server.refused(1).await;
    let tried = "select refused_at is null and attempts = 1 and last_error ~ 'credentials of smtp.url .535' and last_error !~ 'hunter2|password' from actions.mails";
    until(&stack.ops, "it waits for the operator", tried).await;
    assert!(janitor.drained().await.success());
    try_now(&owner).await;
    let url = server.url(true);
    let _mended = stack.janitor(&[TICK, FROM, ("ACTIONS_SMTP__URL", &url), trusted]).await;
    assert_eq!(server.taken(1).await[0].to, "o@acme.com");
    std::fs::remove_file(roots).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_beyond_ascii_is_mailed_to_in_its_ascii_form() {
    let server = MailServer::start(&Authority::default()).await;
    let stack = answering(Reply::json("{}")).await;
    let owner = stack.database.owner().await;
    let insert = "insert into actions_private.mail_outbox (project_id, action_id, recipient, subject, text_body, html_body)
        values ('p', 'a', 'ada@bücher.example', 's', 't', 'h')";
    owner.execute(insert).await.unwrap();
    let url = server.url(false);
    let _janitor = stack.janitor(&[TICK, FROM, ("ACTIONS_SMTP__URL", &url)]).await;
    assert_eq!(server.taken(1).await[0].to, "ada@xn--bcher-kva.example");
}

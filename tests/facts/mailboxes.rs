//! Whom a project may name to be mailed, and that the mailer takes just the same.

use authio_actions::smtp::mailbox;
use authio_actions_testkit::database::{Database, superuser_url};
use sqlx::{Connection, Executor, PgConnection, PgPool};

use crate::support::{programs, refusal};

/// Mailboxes, and words of what is wrong with them; none where mail can be sent to them.
fn cases() -> Vec<(String, Option<&'static str>)> {
    let (name, label) = ("n".repeat(64), "l".repeat(63));
    // 254 characters with a name of 60.
    let long = format!("{}@{label}.{label}.{label}.e", &name[..60]);
    let good = [
        "ada@acme.com",
        "Ada.L+x@ACME.com",
        "o'brien!#$%&*/=?^_`{|}~-@a-b.example",
        "ada@localhost",
        "1@1and1.de",
        "ada@xn--bcher-kva.example",
        "ada@bücher.example",
        "ada@Bücher.de",
        "ada@почта.рф",
        "ada@例え.テスト",
        "ada@한국.kr",
        "ada@דוגמה.co.il",
        "ada@مثال.com",
        "ada@straße.de",
        "ada@правительство-российской-федерации.рф",
        "ada@3.com",
    ];
    let wrong = [
        ("", "no @"),
        ("ada", "no @"),
        ("@acme.com", "before or behind"),
        ("ada@", "before or behind"),
        ("a@b@acme.com", "before the @"),
        ("Ada <ada@acme.com>", "before the @"),
        ("\"ada\"@acme.com", "before the @"),
        (".ada@acme.com", "before the @"),
        ("ada.@acme.com", "before the @"),
        ("a..b@acme.com", "before the @"),
        ("a b@acme.com", "before the @"),
        ("ada(x)@acme.com", "before the @"),
        ("äda@acme.com", "beyond ASCII"),
        ("ada\r\nBcc:x@acme.com", "control"),
        ("ada@acme.com\n", "control"),
        ("ada\u{85}@acme.com", "control"),
        ("ada@[127.0.0.1]", "IP address"),
        ("ada@[IPv6:::1]", "IP address"),
        ("ada@127.0.0.1", "IP address"),
        ("ada@acme.42", "IP address"),
        ("ada@acme_x.com", "domain label"),
        ("ada@-acme.com", "domain label"),
        ("ada@acme-.com", "domain label"),
        ("ada@acme..com", "domain label"),
        ("ada@.com", "domain label"),
        ("ada@acme.com.", "domain label"),
        ("ada@acme.com>", "domain label"),
        ("ada@ac me.com", "domain label"),
        ("ada@Ünder.de", "xn--…"),
        ("ada@xn--ü.de", "xn--…"),
        ("ada@-ü.de", "xn--…"),
        ("ada@ü-.de", "xn--…"),
        ("ada@u\u{308}.de", "xn--…"),
        ("ada@ﬁ.de", "xn--…"),
        ("ada@a\u{ad}b.de", "xn--…"),
        ("ada@aא.de", "xn--…"),
        ("ada@١.de", "xn--…"),
        ("ada@acme。com", "xn--…"),
        ("ada@😀.de", "xn--…"),
        ("ada@a\u{200d}b.de", "xn--…"),
    ];
    let built = [
        (format!("{name}@acme.com"), None),
        (format!("{name}n@acme.com"), Some("64 characters")),
        (format!("ada@{label}.com"), None),
        (format!("ada@{label}l.com"), Some("63 characters")),
        (format!("ada@{}.de", "ü".repeat(57)), None),
        (format!("ada@{}.de", "ü".repeat(58)), Some("63 characters")),
        (long.clone(), None),
        (format!("n{long}"), Some("254 characters")),
        // Short enough as it stands, too long in ASCII.
        (long.replace("l.e", "ü.e"), Some("characters in its ASCII form")),
        (format!("{name}@{}", "中.".repeat(37) + "cn"), Some("254 characters")),
        ("n".repeat(100_000), Some("254 characters")),
    ];
    let good = good.into_iter().map(|mailbox| (mailbox.to_owned(), None));
    good.chain(wrong.into_iter().map(|(mailbox, fault)| (mailbox.to_owned(), Some(fault)))).chain(built).collect()
}

async fn owner() -> PgPool {
    Database::create(&programs().join("actionsctl")).await.owner().await
}

#[tokio::test]
async fn what_a_mailbox_is_means_the_same_to_the_database_and_to_the_mailer() {
    let owner = owner().await;
    for (mailbox, wanted) in cases() {
        let (sql, is_mailbox): (Option<String>, bool) =
            sqlx::query_as("select actions_private.mailbox_fault($1), actions_private.is_mailbox($1)")
                .bind(&mailbox)
                .fetch_one(&owner)
                .await
                .unwrap();
        let rust = mailbox::address(&mailbox).err();
        assert_eq!(sql.as_deref(), rust, "{mailbox}");
        assert!(
            is_mailbox == wanted.is_none()
                && rust.is_some() == wanted.is_some()
                && rust.unwrap_or_default().contains(wanted.unwrap_or_default()),
            "{mailbox}: {rust:?}"
        );
    }
}

#[tokio::test]
async fn every_letter_means_the_same_to_the_database_and_to_the_mailer() {
    let owner = owner().await;
    let taken: Vec<i32> = sqlx::query_scalar(
        "select c from generate_series(1, 205743) as c where c not between 55296 and 57343 and actions_private.is_mailbox('a@' || chr(c) || '.e') order by c")
        .fetch_all(&owner).await.unwrap();
    let rust: Vec<i32> = ('\u{1}'..='\u{323af}').filter(|c| mailbox::address(&format!("a@{c}.e")).is_ok()).map(|c| c as i32).collect();
    assert!(taken.len() > 30_000 && taken == rust, "{} and {}", taken.len(), rust.len());
}

#[tokio::test]
async fn the_database_knows_how_long_a_label_is_in_ascii() {
    let owner = owner().await;
    let letters: Vec<char> = "abcxyz019-üößąćżşπλбвгд中文字例えテスト한국어一鿿".chars().collect();
    let mut dice: u64 = 1;
    let mut die = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let mut labels: Vec<String> = ["ü", "bücher", "правительство", "𠀀a"].map(str::to_owned).to_vec();
    for _ in 0..400 {
        let length = 1 + die(24);
        // No hyphen at an end or in the third place, where IDNA has its own opinion.
        labels.push((0..length).map(|_| letters[die(letters.len())]).collect::<String>().replace('-', "a-ü") + "ü");
    }
    labels.retain(|label| !label.chars().skip(2).take(2).eq("--".chars()) && !label.starts_with('-'));
    let lengths: Vec<i32> = sqlx::query_scalar(
        "select 4 + actions_private.punycode_length(label) from unnest($1::text[]) with ordinality as t (label, n) order by n",
    )
    .bind(&labels)
    .fetch_all(&owner)
    .await
    .unwrap();
    assert!(labels.len() > 350);
    for (label, length) in labels.iter().zip(lengths) {
        assert_eq!(length, i32::try_from(idna::domain_to_ascii(label).unwrap().len()).unwrap(), "{label}");
    }
}

#[tokio::test]
async fn the_first_wrong_member_is_named_with_what_was_given_and_what_is_accepted() {
    let owner = owner().await;
    owner.execute("select actions.upsert_project('p', 'P', true)").await.unwrap();
    let cases = [
        ("{}", "members is a JSON object", "JSON array"),
        (r#"[7]"#, "members[0] is 7", "JSON object"),
        (r#"[{"email":"a@b","role":"owner"},{"role":"owner"}]"#, "members[1].email is missing, which is no text", "ada@acme.com"),
        (r#"[{"email":null,"role":"owner"}]"#, "members[0].email is null", "ada@acme.com"),
        (
            r#"[{"email":"a@b","role":"x"},{"email":"a\nb@c","role":"x"},{"email":"q","role":"x"}]"#,
            r#"members[1].email is "a\nb@c", which holds a control character"#,
            "no display name",
        ),
        (r#"[{"email":"äda@acme.com","role":"x"}]"#, "which has letters beyond ASCII before the @", "64 ASCII characters"),
        (r#"[{"email":"a@b","role":""}]"#, r#"members[0].role is """#, "not empty"),
        (r#"[{"email":"a@b"}]"#, "members[0].role is missing", "not empty"),
    ];
    for (members, message, detail) in cases {
        let sql = format!("select actions.set_project_members('p', '{members}')");
        let [code, told, accepted, hint] = refusal(&owner, &sql).await;
        assert!(
            code == "22023" && told.contains(message) && accepted.contains(detail) && !hint.is_empty(),
            "{members}: {told}; {accepted}"
        );
    }
}

#[tokio::test]
async fn whoever_is_an_owner_or_admin_is_mailed_whatever_language_the_database_sorts_by() {
    let mut server = PgConnection::connect(&superuser_url()).await.unwrap();
    let has_icu: bool =
        sqlx::query_scalar("select exists (select from pg_collation where collprovider = 'i')").fetch_one(&mut server).await.unwrap();
    if !has_icu {
        eprintln!("skipped: this PostgreSQL was built without ICU");
        return;
    }
    let database =
        Database::create_with("encoding 'UTF8' locale_provider icu icu_locale 'tr-TR' template template0", &programs().join("actionsctl"))
            .await;
    let owner = database.owner().await;
    let small: String = sqlx::query_scalar("select lower('ADMIN')").fetch_one(&owner).await.unwrap();
    assert_eq!(small, "admın", "the database speaks Turkish");
    for sql in [
        "select actions.upsert_project('p', 'P', true)",
        r#"select actions.set_project_members('p', '[{"email":"I@acme.com","role":"member"},{"email":"o@acme.com","role":"Owner"},{"email":"m@acme.com","role":"member"},
          {"email":"i@acme.com","role":"ADMIN"}]')"#,
        "select actions.create_action('p', 'pre_register', 'HTTPS://a.example/', 'A')",
        "select actions_private.take_lead('j', '1 minute')",
        "select actions_private.kill_action(1, a.action_id, a.counting_since, 'why', '{}', 's', 't', 'h') from actions.actions as a",
    ] {
        owner.execute(sql).await.unwrap();
    }
    let told: Vec<String> =
        sqlx::query_scalar("select recipient from actions_private.mail_outbox order by 1").fetch_all(&owner).await.unwrap();
    assert_eq!(told, ["i@acme.com", "o@acme.com"]);
}

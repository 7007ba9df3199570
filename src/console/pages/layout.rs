//! What all pages share: head, navigation, foot.

use maud::{DOCTYPE, Markup, html};

use crate::console::ways_in::Person;

/// A page of somebody who is signed in.
pub fn page(person: &Person, title: &str, body: &Markup) -> Markup {
    document(
        title,
        &html! {
            header {
                a class="skip" href="#main" { "To the content" }
                nav aria-label="Pages" {
                    a href="/" { "Overview" }
                    a href="/projects" { "Projects" }
                    a href="/invocations" { "Invocations" }
                    a href="/audit" { "Audit log" }
                    a href="/try" { "Try" }
                }
                form class="search" method="get" action="/search" role="search" {
                    label { span class="unseen" { "Search" } input type="search" name="q" placeholder="id, host or e-mail" maxlength="200"; }
                }
                form class="person" method="post" action="/sign-out" {
                    span { (person.actor()) }
                    (token(person))
                    button class="quiet" { "Sign out" }
                }
            }
            main id="main" { h1 { (title) } (body) }
        },
    )
}

/// A page of nobody in particular.
pub fn plain(title: &str, body: &Markup) -> Markup {
    document(title, &html! { main id="main" class="plain" { h1 { (title) } (body) } })
}

/// The hidden field without which no change is made.
pub fn token(person: &Person) -> Markup {
    html! { input type="hidden" name="csrf_token" value=(person.csrf); }
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The policy allows no inline style and no evaluation.
                meta name="htmx-config" content=r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true}"#;
                title { (title) " · Authio Actions" }
                link rel="stylesheet" href="/assets/console.css";
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                script src="/assets/htmx.min.js" defer {}
                script src="/assets/htmx-sse.min.js" defer {}
            }
            body { (body) }
        }
    }
}

//! What people read when an action was killed.

use std::fmt::Write;

use crate::domain::Trigger;
use crate::store::leader::{Figures, Mail};

/// The mail for owners and admins of the project.
pub fn action_killed(figures: &Figures, reason: &str, dashboard: Option<&str>) -> Mail {
    let Figures { name, trigger, project_id, action_id, calls, errors, timeouts, consecutive_5xx, .. } = figures;
    let link = dashboard.and_then(|base| link(base, project_id, action_id));
    let (how, what) = match &link {
        Some(link) => ("Look at the recent invocations and re-enable it when the endpoint is well:", link.clone()),
        None => (
            "Look at its recent invocations and re-enable it when the endpoint is well:",
            format!("actionsctl action reenable {action_id}"),
        ),
    };
    let paragraphs = [
        vec![format!("Authio has stopped calling the action \"{name}\" ({trigger}) of project {project_id}.")],
        vec![format!("{} That lasts until a person re-enables it.", what_it_means(figures))],
        vec![format!("Reason: {reason}.")],
        vec![
            format!("In the window before: {calls} calls, {errors} errors, {timeouts} of them timeouts,"),
            format!("{consecutive_5xx} responses with 5xx in a row at the end."),
        ],
        vec![how.to_owned(), what],
        vec![format!("Action: {action_id}")],
    ]
    .map(|lines| lines.iter().map(|line| one_line(line)).collect::<Vec<_>>());
    let text = paragraphs.iter().map(|lines| lines.join("\n")).collect::<Vec<_>>().join("\n\n") + "\n";
    let html = paragraphs.iter().map(|lines| html_paragraph(lines, link.as_deref())).collect::<Vec<_>>().join("\n");
    Mail { subject: one_line(&format!("Action \"{name}\" was switched off: {reason}")), text, html }
}

/// Whether people pass meanwhile.
fn what_it_means(figures: &Figures) -> String {
    let Figures { trigger, on_killed, .. } = figures;
    let is_sign_up = trigger.ends_with("_register");
    let events = if is_sign_up { "Sign-ups" } else { "Sign-ins" };
    if !trigger.parse::<Trigger>().is_ok_and(Trigger::can_deny) {
        format!("{events} pass as before: {trigger} only informs, and never denies.")
    } else if on_killed == "deny" {
        format!("{events} that reach it are now denied, with the code action_killed (on_killed is deny).")
    } else {
        format!("{events} now pass as if this action did not exist (on_killed is {on_killed}).")
    }
}

/// Where the dashboard shows the action; none for a project that no path can name.
fn link(base: &str, project_id: &str, action_id: &str) -> Option<String> {
    // Browsers read these as steps, however they are written.
    let is_step = [".", ".."].contains(&project_id);
    (!is_step).then(|| format!("{}/projects/{}/actions/{}", base.trim_end_matches('/'), segment(project_id), segment(action_id)))
}

/// One segment of a path: all but what RFC 3986 leaves as it is anywhere.
fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut segment, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}"); // a String takes everything
        }
        segment
    })
}

/// Names may hold line breaks, which must not begin a paragraph or a header.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn html_paragraph(lines: &[String], link: Option<&str>) -> String {
    let html = |line: &String| {
        let text = escape(line);
        if link == Some(line.as_str()) { format!("<a href=\"{text}\">{text}</a>") } else { text }
    };
    format!("<p>{}</p>", lines.iter().map(html).collect::<Vec<_>>().join("<br>"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            action_id: "action_1".to_owned(),
            project_id: "p".to_owned(),
            name: "A".to_owned(),
            trigger: "pre_authenticate".to_owned(),
            on_killed: "skip".to_owned(),
            counting_since: time::OffsetDateTime::UNIX_EPOCH,
            calls: 1,
            errors: 1,
            timeouts: 0,
            error_ratio: 1.0,
            timeout_ratio: 0.0,
            consecutive_5xx: 0,
        }
    }

    #[test]
    fn names_are_escaped_in_html_and_cannot_break_the_subject_or_begin_a_paragraph() {
        let figures = Figures { name: "<b>\r\n\r\nBcc: x".to_owned(), ..figures() };
        let mail = action_killed(&figures, "why", Some("https://dash/"));
        assert!(!mail.subject.contains(['\r', '\n']) && !mail.html.contains("<b>") && !mail.text.contains("\nBcc"));
        assert!(mail.html.contains("<a href=\"https://dash/projects/p/actions/action_1\">"), "{}", mail.html);
    }

    #[test]
    fn a_link_names_any_project_and_what_stands_behind_it_reads_the_same_name() {
        for project in ["a/b", "a?b=c#d", "100%25", "\"<'&> x\"", "é…", "..;", "a\nb"] {
            let mail = action_killed(&Figures { project_id: project.to_owned(), ..figures() }, "why", Some("https://dash/base/"));
            let line = mail.text.lines().find(|line| line.starts_with("https://")).expect("a link");
            let url = url::Url::parse(line).unwrap();
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            assert_eq!((segments.len(), segments[1], url.query(), url.fragment()), (5, "projects", None, None), "{line}");
            let decoded = url::form_urlencoded::parse(segments[2].as_bytes()).next().unwrap().0.into_owned();
            assert_eq!(decoded, project, "{line}");
            assert!(mail.html.contains(&format!("<a href=\"{line}\">")), "nothing is left to escape: {}", mail.html);
        }
        let step = action_killed(&Figures { project_id: "..".to_owned(), ..figures() }, "why", Some("https://dash"));
        assert!(!step.text.contains("https://dash") && step.text.contains("actionsctl action reenable action_1"));
    }

    #[test]
    fn people_are_told_whether_they_pass_near_the_top_of_both_forms() {
        for (trigger, on_killed, words) in [
            ("pre_authenticate", "skip", "Sign-ins now pass as if this action did not exist"),
            ("pre_token_mint", "deny", "Sign-ins that reach it are now denied"),
            ("pre_register", "deny", "Sign-ups that reach it are now denied"),
            ("post_register", "deny", "Sign-ups pass as before"),
            ("post_token_mint", "deny", "Sign-ins pass as before"),
        ] {
            let figures = Figures { trigger: trigger.to_owned(), on_killed: on_killed.to_owned(), ..figures() };
            let mail = action_killed(&figures, "why", None);
            assert!(mail.text.split("\n\n").nth(1).unwrap().starts_with(words), "{}", mail.text);
            assert!(mail.html.lines().nth(1).unwrap().contains(words), "{}", mail.html);
        }
    }
}

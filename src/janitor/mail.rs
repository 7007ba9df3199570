//! What people read when an action was killed.

use crate::store::duties::{Figures, Mail};

/// The mail for owners and admins of the project.
pub fn action_killed(figures: &Figures, reason: &str, dashboard: Option<&str>) -> Mail {
    let link =
        dashboard.map(|base| format!("{}/projects/{}/actions/{}", base.trim_end_matches('/'), figures.project_id, figures.action_id));
    let what_next = match &link {
        Some(link) => format!("Look at the recent invocations and re-enable it when the endpoint is well:\n{link}"),
        None => format!(
            "Look at its recent invocations and re-enable it when the endpoint is well:\nactionsctl action reenable {}",
            figures.action_id
        ),
    };
    let Figures { name, trigger, project_id, action_id, calls, errors, timeouts, consecutive_5xx, .. } = figures;
    let text = format!(
        "Authio has stopped calling the action \"{name}\" ({trigger}) of project {project_id}.\n\n\
         Reason: {reason}.\n\n\
         In the window before: {calls} calls, {errors} errors, {timeouts} of them timeouts,\n\
         {consecutive_5xx} responses with 5xx in a row at the end.\n\n\
         Until a person re-enables it, auth events go on as its setting on_killed says.\n\n\
         {what_next}\n\n\
         Action: {action_id}\n"
    );
    let paragraphs: Vec<String> =
        text.trim().split("\n\n").map(|paragraph| format!("<p>{}</p>", escape(paragraph).replace('\n', "<br>"))).collect();
    let mut html = paragraphs.join("\n");
    if let Some(link) = &link {
        let link = escape(link);
        html = html.replace(&link, &format!("<a href=\"{link}\">{link}</a>"));
    }
    let subject: String = format!("Action \"{name}\" was switched off: {reason}").chars().filter(|c| !c.is_control()).collect();
    Mail { subject, text, html }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_html_and_cannot_break_the_subject() {
        let figures = Figures {
            action_id: "action_1".to_owned(),
            project_id: "p".to_owned(),
            name: "<b>\r\nBcc: x".to_owned(),
            trigger: "pre_register".to_owned(),
            counting_since: time::OffsetDateTime::UNIX_EPOCH,
            calls: 1,
            errors: 1,
            timeouts: 0,
            error_ratio: 1.0,
            timeout_ratio: 0.0,
            consecutive_5xx: 0,
        };
        let mail = action_killed(&figures, "why", Some("https://dash/"));
        assert!(!mail.subject.contains(['\r', '\n']) && !mail.html.contains("<b>"));
        assert!(mail.html.contains("<a href=\"https://dash/projects/p/actions/action_1\">"), "{}", mail.html);
    }
}

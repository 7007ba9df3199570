//! How actions look on a screen.

use serde_json::Value;

use crate::ctl::say;
use crate::ctl::screen::{self, Tone};
use crate::program::ProgramError;

/// Two lines an action, in 80 columns; its project above them, where it is another than before.
pub(super) fn print(rows: &[String]) -> Result<(), ProgramError> {
    if rows.is_empty() {
        say("There is no action; make one with: actionsctl action create");
    }
    let mut above = String::new();
    for row in rows {
        let row = screen::parsed(row)?;
        let project = screen::text(&row, "project_id");
        if project != above {
            say(screen::bold(&screen::short(&project, 80)));
            above = project;
        }
        let (tone, state) = state(&row);
        say(format_args!(
            "  {:<17}  {}  {}",
            screen::text(&row, "trigger"),
            screen::toned(tone, &format!("{state:<8}")),
            screen::short(&screen::text(&row, "name"), 49)
        ));
        let changed = screen::moment(&row, "updated_at");
        say(format_args!("{:21}{}  changed {}", "", screen::text(&row, "action_id"), changed.get(..16).unwrap_or_default()));
    }
    Ok(())
}

fn state(row: &Value) -> (Tone, &'static str) {
    match (row["killed_at"].is_null(), row["enabled"].as_bool()) {
        (false, _) => (Tone::Bad, "killed"),
        (true, Some(true)) => (Tone::Well, "enabled"),
        (true, _) => (Tone::Warning, "disabled"),
    }
}

/// An action with everything that is known of it, and its secret where it is new.
pub(super) fn show(row: &Value, secret: Option<&str>) {
    let text = |field: &str| screen::text(row, field);
    let (tone, state) = state(row);
    let killed =
        if state == "killed" { format!(" at {} UTC: {}", screen::moment(row, "killed_at"), text("killed_reason")) } else { String::new() };
    let known = text("secret_key_id");
    let under = if known.is_empty() { ", not signed with yet".to_owned() } else { format!(" under root key {known}") };
    let until = screen::moment(row, "previous_secret_until");
    let seen = screen::moment(row, "secret_seen_at");
    screen::fields(
        &text("action_id"),
        &[
            ("name", text("name")),
            ("project", text("project_id")),
            ("trigger", text("trigger")),
            ("endpoint", text("endpoint_url")),
            ("timeout", format!("{} ms, then it fails {}", text("timeout_ms"), text("fail_mode"))),
            ("when killed", text("on_killed")),
            ("answers", if row["require_response_signature"] == true { "must be signed".to_owned() } else { "may be signed".to_owned() }),
            ("state", format!("{}{killed}", screen::toned(tone, state))),
            ("secret", format!("version {}{under}", text("secret_version"))),
            ("sha256", text("secret_sha256")),
            ("last used", if seen.is_empty() { seen } else { format!("an answer was signed with it at {seen} UTC") }),
            ("overlap", if until.is_empty() { until } else { format!("the previous secret counts until {until} UTC") }),
            ("checks", if row["check_every_s"] == 0 { String::new() } else { format!("a test event every {} s", text("check_every_s")) }),
            ("called for", text("condition")),
            (
                "recorded",
                if row["record_events"] == 0 {
                    String::new()
                } else {
                    format!("the last {} events, for {} h", text("record_events"), text("record_hours"))
                },
            ),
            (
                "last known",
                if row["last_known_s"] == 0 { String::new() } else { format!("applies for {} s where it fails", text("last_known_s")) },
            ),
            ("recovery", text("recovery")),
            ("version", format!("{}, changed {} UTC", text("version"), screen::moment(row, "updated_at"))),
        ],
    );
    if let Some(secret) = secret {
        say("");
        say(format_args!("  signing secret, shown this once:\n  {}", screen::bold(secret)));
    }
}

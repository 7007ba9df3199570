//! `actionsctl replay`: recorded events, sent again to something new.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde_json::json;

use super::signature::SECRET_VARIABLE;
use super::{say, screen};
use crate::config::Config;
use crate::domain::Outcome;
use crate::egress::Egress;
use crate::program::ProgramError;
use crate::replay::{self, Compared, ReplayError, Target, To};
use crate::store::{schema, trials};

impl From<ReplayError> for ProgramError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Store(error) => error.into(),
            ReplayError::UnknownAction(_) | ReplayError::UnknownVersion(_) => Self::Usage(error.to_string()),
            ReplayError::MissingKey(_) | ReplayError::Unreadable(_) => Self::Failed(error.to_string()),
        }
    }
}

/// Send recorded events of an action again, and compare what would be decided now with what was then.
///
/// Needs the role actions_admin and the root keys; record_events of the action says how many events are kept.
/// Every request is the one that was sent then, signed anew, with the header Authio-Mode: replay. Exit status
/// 0 where nothing differs, 1 where something does or a call fails that had not failed then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  actionsctl replay action_… --version 4\n  \
    AUTHIO_ACTION_SECRET=asec_… actionsctl replay action_… --url https://staging.acme.com/authio --last 20 --json")]
pub struct Replay {
    action: String,
    /// This version of the action, with its own secret.
    #[arg(long, value_name = "VERSION", required_unless_present = "url", conflicts_with = "url")]
    version: Option<i32>,
    /// Another endpoint, with the other settings of the current version.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its secret, asec_…; better in the variable AUTHIO_ACTION_SECRET, where the process list does not show it.
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// How many of the newest.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000))]
    last: i32,
    /// Print a line of JSON for each event.
    #[arg(long)]
    json: bool,
}

/// What came of it all.
#[derive(Default)]
struct Sum {
    sent: usize,
    differ: usize,
    newly_failed: usize,
    unreadable: usize,
}

impl Replay {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let keys = config.root_keys()?;
        let egress = Egress::new(&config.egress)?;
        let database = super::database(config)?;
        schema::check(&database).await?;
        let to = match (&self.url, &self.secret, self.version) {
            (Some(url), Some(secret), _) => To::Endpoint { url, secret },
            (Some(_), None, _) => {
                return Err(ProgramError::Usage(format!("--url needs the endpoint's secret; give --secret, or set {SECRET_VARIABLE}")));
            }
            (None, _, version) => To::Version(version.unwrap_or_default()),
        };
        let target = Target::of(&database, &keys, &self.action, to).await;
        let recorded = trials::recorded(&database, &self.action, self.last).await;
        database.close();
        let (target, recorded) = (target?, recorded?);
        if recorded.is_empty() {
            eprintln!("actionsctl: nothing is recorded of {}; record_events says how many events are kept", self.action);
            return Ok(());
        }
        let mut sum = Sum::default();
        let all = recorded.len();
        for (n, event) in recorded.iter().rev().enumerate() {
            progress(n, all);
            match replay::open(&keys, &self.action, event) {
                Some(read) => self.tell(&event.event_id, &target.send(&egress, &event.event_id, read).await, &mut sum),
                None => {
                    sum.unreadable += 1;
                    let trials::Encrypted { event_id, key_id, .. } = event;
                    eprintln!(
                        "actionsctl: {event_id} cannot be read: its root key {key_id:?} is not among secrets.root_keys of this machine"
                    );
                }
            }
        }
        progress(all, all);
        self.conclude(&sum)
    }

    fn tell(&self, event_id: &str, compared: &Compared, sum: &mut Sum) {
        let Compared { then, now, error, differs, took } = compared;
        sum.sent += 1;
        sum.differ += usize::from(!differs.is_empty());
        sum.newly_failed += usize::from(compared.has_newly_failed());
        let ms = took.as_secs_f64() * 1000.0;
        if self.json {
            let side = |outcome: &Outcome| json!({"status": outcome.status.as_str(), "decision": outcome.decision.as_str()});
            say(json!({"event_id": event_id, "then": side(then), "now": side(now), "differs": differs, "ms": ms}));
            return;
        }
        let what = if differs.is_empty() { "same".to_owned() } else { differs.join(", ") };
        let tone = screen::Tone::of(differs.is_empty());
        let (then, now) = (then.decision.as_str(), now.decision.as_str());
        say(format_args!("{event_id}  {then:<5} -> {now:<5}  {ms:>7.1} ms  {}", screen::toned(tone, &what)));
        if let Some(error) = error {
            say(format_args!("{:32}{}", "", screen::short(&screen::plain(error), 48)));
        }
    }

    fn conclude(&self, sum: &Sum) -> Result<(), ProgramError> {
        let Sum { sent, differ, newly_failed, unreadable } = sum;
        let summary =
            format!("{sent} sent again: {} the same, {differ} differ, {newly_failed} failed that had not failed then", sent - differ);
        if !self.json {
            say(screen::bold(&summary));
        }
        if *unreadable > 0 {
            return Err(ProgramError::Failed(format!("{unreadable} recorded events could not be read")));
        }
        if *differ > 0 || *newly_failed > 0 { Err(ProgramError::Failed(summary)) } else { Ok(()) }
    }
}

/// How far it is, where somebody looks.
fn progress(done: usize, all: usize) {
    let mut screen = std::io::stderr();
    if screen.is_terminal() {
        let end = if done == all { "\r\x1b[K" } else { "" };
        let _ = write!(screen, "\r{done} of {all}{end}");
        let _ = screen.flush();
    }
}

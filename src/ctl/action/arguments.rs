//! What `actionsctl action …` may be asked, with an example each.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::ctl::arguments;
use crate::ctl::confirm::Consent;
use crate::domain::{FailMode, OnKilled, Trigger};
use crate::program::ProgramError;
use crate::store::control::NewAction;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bind an endpoint to a trigger of a project; prints the signing secret once.
    #[command(
        after_help = "Example:\n  actionsctl action create --project proj_acme_prod --trigger pre_token_mint \\\n    --url https://hooks.acme.com/authio --name 'Roles from Acme'"
    )]
    Create(Create),
    /// List actions.
    #[command(after_help = "Example:\n  actionsctl action list --project proj_acme_prod --json")]
    List {
        /// Only those of this project.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// Show an action.
    #[command(after_help = "Example:\n  actionsctl action show action_…")]
    Show { id: String },
    /// Change an action's configuration; an earlier version comes back with --restore.
    #[command(
        after_help = "Examples:\n  actionsctl action update action_… --timeout-ms 3000\n  actionsctl action update action_… --restore 2\n  actionsctl action update action_… --check-every-s 60"
    )]
    Update(Update),
    /// Switch an action on.
    #[command(after_help = "Example:\n  actionsctl action enable action_…")]
    Enable { id: String },
    /// Switch an action off.
    #[command(after_help = "Example:\n  actionsctl action disable action_… --actor ada@acme.com")]
    Disable { id: String },
    /// Take back a kill; a fresh window of the kill-switch begins.
    #[command(after_help = "Example:\n  actionsctl action test action_… && actionsctl action reenable action_…")]
    Reenable { id: String },
    /// Kill an action by hand: nobody calls it until it is re-enabled, and owners and admins get mail.
    #[command(
        after_help = "Example:\n  actionsctl action kill action_… --reason 'its endpoint leaks what it receives' --actor ada@acme.com"
    )]
    Kill {
        id: String,
        /// Why, on one line; people read it in the mail.
        #[arg(long, value_name = "REASON")]
        reason: String,
    },
    /// Disable one action of a trigger and enable another in its place, in one step.
    #[command(
        after_help = "Example, after: actionsctl action create … --disabled\n  actionsctl action swap --disable action_… --enable action_…"
    )]
    Swap {
        /// The one that is called now.
        #[arg(long, value_name = "ACTION")]
        disable: String,
        /// The one that is called from now on.
        #[arg(long, value_name = "ACTION")]
        enable: String,
    },
    /// Make a new signing secret and print it once; requests carry both signatures for a while.
    #[command(
        after_help = "Example, with two days to hand the new one over:\n  actionsctl action rotate-secret action_… --overlap-s 172800\n\n\
            Example, where a secret has leaked, so that it ends at once:\n  actionsctl action rotate-secret action_… --overlap-s 0 --yes"
    )]
    RotateSecret {
        id: String,
        /// Seconds for which the previous secret still counts; 0 ends it at once.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i32).range(0..=2_592_000))]
        overlap_s: i32,
        #[command(flatten)]
        consent: Consent,
    },
    /// End the overlap: only the new secret counts from here on.
    #[command(
        after_help = "Example, when the endpoint has the new secret (action show tells):\n  actionsctl action finish-rotation action_… --yes"
    )]
    FinishRotation {
        id: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Show the signing secret again; needs the root keys.
    #[command(after_help = "It is an audit event, action.secret_revealed.\n\nExample:\n  actionsctl action secret action_… | wl-copy")]
    Secret { id: String },
    /// Send a made-up event on the real path, and wait for what becomes of it.
    #[command(
        after_help = "Works on disabled and killed actions, too, and never counts for the kill-switch.\n\nExample:\n  actionsctl action test action_… --json"
    )]
    Test { id: String },
    /// Delete an action for good.
    #[command(after_help = "Its invocations stay until the retention ends.\n\nExample:\n  actionsctl action delete action_… --yes")]
    Delete {
        id: String,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// The project's id; see: actionsctl project list.
    #[arg(long, value_name = "PROJECT")]
    project: String,
    /// The moment of the auth event.
    #[arg(long, value_name = "TRIGGER", value_parser = arguments::trigger())]
    trigger: Trigger,
    /// The endpoint, https://.
    #[arg(long, value_name = "URL")]
    url: String,
    /// How people call it.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Milliseconds that the endpoint may take, 100 to 5000.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout_ms: i32,
    /// What decides when the endpoint fails.
    #[arg(long, value_name = "MODE", default_value = "open", value_parser = arguments::fail_mode())]
    fail_mode: FailMode,
    /// What decides while it is killed.
    #[arg(long, value_name = "WHAT", default_value = "skip", value_parser = arguments::on_killed())]
    on_killed: OnKilled,
    /// Refuse answers that are not signed.
    #[arg(long)]
    require_response_signature: bool,
    /// A jsonpath predicate over the event: what does not meet it is allowed and not sent.
    #[arg(long, value_name = "JSONPATH")]
    condition: Option<String>,
    /// Prepare it beside the live one; see: actionsctl action swap.
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, Args)]
pub struct Update {
    pub id: String,
    /// Start from this earlier version of the configuration.
    #[arg(long, value_name = "VERSION")]
    restore: Option<i32>,
    #[command(flatten)]
    changes: Changes,
}

/// What of an action's configuration can be changed.
#[derive(Debug, Args)]
pub struct Changes {
    /// How people call it.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The endpoint, https://.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Milliseconds, 100 to 5000.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<i32>,
    /// What decides when the endpoint fails.
    #[arg(long, value_name = "MODE", value_parser = arguments::fail_mode())]
    fail_mode: Option<FailMode>,
    /// What decides while it is killed.
    #[arg(long, value_name = "WHAT", value_parser = arguments::on_killed())]
    on_killed: Option<OnKilled>,
    /// Whether answers that are not signed are refused.
    #[arg(long, value_name = "BOOL")]
    require_response_signature: Option<bool>,
    /// Seconds between two test events that the fleet sends by itself, 10 to 86400; 0 for none.
    #[arg(long, value_name = "SECONDS")]
    check_every_s: Option<i32>,
    /// A jsonpath predicate: what does not meet it is not sent. An empty text sends every event.
    #[arg(long, value_name = "JSONPATH")]
    condition: Option<String>,
    /// How many of the newest events are kept, encrypted, for replay, 1 to 1000; 0 for none.
    #[arg(long, value_name = "COUNT")]
    record_events: Option<i32>,
    /// Hours for which they are kept, 1 to 168.
    #[arg(long, value_name = "HOURS")]
    record_hours: Option<i32>,
    /// Seconds for which a person's last verdict applies where the endpoint fails; 0 for none.
    #[arg(long, value_name = "SECONDS")]
    last_known_s: Option<i32>,
    /// probe takes a kill back after five test events that end ok.
    #[arg(long, value_name = "HOW", value_parser = ["manual", "probe"])]
    recovery: Option<String>,
}

impl Create {
    pub fn request(&self) -> NewAction<'_> {
        NewAction {
            project_id: &self.project,
            trigger: self.trigger.as_str(),
            endpoint_url: &self.url,
            name: &self.name,
            timeout_ms: self.timeout_ms,
            fail_mode: self.fail_mode.as_str(),
            on_killed: self.on_killed.as_str(),
            require_response_signature: self.require_response_signature,
            enabled: !self.disabled,
            condition: self.condition.as_deref(),
        }
    }
}

impl Update {
    /// The changes as the SQL function wants them.
    pub fn changes(&self) -> Result<String, ProgramError> {
        let mut changes = self.changes.given();
        changes.extend(self.restore.map(|version| ("version".to_owned(), json!(version))));
        text(changes)
    }
}

impl Changes {
    /// The changes as the SQL function wants them.
    pub fn json(&self) -> Result<String, ProgramError> {
        text(self.given())
    }

    fn given(&self) -> Map<String, Value> {
        let given = [
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("endpoint_url", self.url.as_ref().map(|url| json!(url))),
            ("timeout_ms", self.timeout_ms.map(|ms| json!(ms))),
            ("fail_mode", self.fail_mode.map(|mode| json!(mode.as_str()))),
            ("on_killed", self.on_killed.map(|what| json!(what.as_str()))),
            ("require_response_signature", self.require_response_signature.map(|required| json!(required))),
            ("check_every_s", self.check_every_s.map(|seconds| json!(seconds))),
            ("condition", self.condition.as_ref().map(|text| if text.is_empty() { Value::Null } else { json!(text) })),
            ("record_events", self.record_events.map(|count| json!(count))),
            ("record_hours", self.record_hours.map(|hours| json!(hours))),
            ("last_known_s", self.last_known_s.map(|seconds| json!(seconds))),
            ("recovery", self.recovery.as_ref().map(|how| json!(how))),
        ];
        given.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))).collect()
    }
}

fn text(changes: Map<String, Value>) -> Result<String, ProgramError> {
    if changes.is_empty() {
        return Err(ProgramError::Usage("nothing to change was given; --help lists what can be".to_owned()));
    }
    Ok(Value::Object(changes).to_string())
}

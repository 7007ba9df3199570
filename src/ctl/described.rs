//! Projects as files: `actionsctl apply` and `actionsctl export`. The names are SQL's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::say;
use super::screen::{self, Tone};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::apply::{self, Settings, Step};
use crate::store::{Database, schema};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Toml,
    Yaml,
}

/// Make projects and actions what files say of them.
///
/// Prints what differs, and changes just that, in one transaction a project. What a file leaves out stays
/// as it is; a new action has the defaults. An action is known by its trigger and its name.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 done, or nothing to do; 3 with --dry-run where something would change.\n\n\
    Examples:\n  actionsctl export --project proj_acme_prod > acme.toml\n  actionsctl apply acme.toml --dry-run\n  \
    actionsctl apply acme.toml globex.yaml --prune --actor ada@acme.com")]
pub struct Apply {
    /// Files, .toml, .yaml or .yml; - is standard input and needs --format.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Delete actions of the projects that the files name, where no file names the action.
    #[arg(long)]
    prune: bool,
    /// How the files are written, whatever their suffix.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Who does this, for the audit log.
    #[arg(long, env = "ACTIONS_ACTOR", value_name = "WHO", default_value = "actionsctl")]
    actor: String,
}

/// Write down a project with its roles, people and actions, without secrets.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  actionsctl export --project proj_acme_prod --format yaml > acme.yaml")]
pub struct Export {
    /// The project.
    #[arg(long, value_name = "PROJECT")]
    project: String,
    /// How it is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "toml")]
    format: Format,
}

/// A file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    projects: Vec<Project>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    project_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roles_action_override: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role_slugs: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Member>>,
    #[serde(default)]
    actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    email: String,
    role: String,
}

/// An action. What is absent stays as it is; `condition` may be an empty text, which is none.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    trigger: String,
    name: String,
    endpoint_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fail_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_killed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    require_response_signature: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_every_s: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_events: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_hours: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_known_s: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

impl Export {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let found = apply::described(&database, &self.project).await?;
        database.close();
        let unknown = || ProgramError::Usage(format!("there is no project {:?}; see: actionsctl project list", self.project));
        let row = screen::parsed(&found.ok_or_else(unknown)?)?;
        say(self.format.write(&Document { projects: vec![Project::of(&row)] })?.trim_end());
        Ok(())
    }
}

impl Apply {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        // Every file is read before anything is changed.
        let documents = self.files.iter().map(|file| self.read(file)).collect::<Result<Vec<_>, _>>()?;
        let projects: Vec<Project> = documents.into_iter().flat_map(|document| document.projects).collect();
        for (n, project) in projects.iter().enumerate() {
            if projects[..n].iter().any(|other| other.project_id == project.project_id) {
                return Err(ProgramError::Usage(format!(
                    "project {:?} is described twice; accepted is once in all files",
                    project.project_id
                )));
            }
            project.check()?;
        }
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = self.apply(&database, &projects).await;
        database.close();
        result
    }

    fn read(&self, file: &Path) -> Result<Document, ProgramError> {
        let wrong = |why: String| ProgramError::Usage(format!("{}: {why}", file.display()));
        let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let format = match (self.format, suffix) {
            (Some(format), _) => format,
            (None, "toml") => Format::Toml,
            (None, "yaml" | "yml") => Format::Yaml,
            (None, _) => {
                return Err(wrong("its name does not say how it is written; accepted are .toml, .yaml and .yml, or --format".to_owned()));
            }
        };
        let text = String::from_utf8(super::signature::read(file)?).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        format.read(&text).map_err(wrong)
    }

    async fn apply(&self, database: &Database, projects: &[Project]) -> Result<(), ProgramError> {
        let mut changes = 0;
        for wanted in projects {
            let now = apply::described(database, &wanted.project_id).await?.map(|row| screen::parsed(&row)).transpose()?;
            let plan = wanted.plan(now.as_ref(), self.prune)?;
            if plan.lines.is_empty() {
                say(format_args!("project {}: as described", screen::plain(&wanted.project_id)));
                continue;
            }
            changes += plan.lines.len();
            say(screen::bold(&format!("project {}", screen::plain(&wanted.project_id))));
            for (tone, line) in &plan.lines {
                say(screen::toned(*tone, &screen::plain(line)));
            }
            if !self.dry_run {
                apply::apply(database, &wanted.project_id, &plan.steps, &self.actor).await?;
            }
        }
        match (self.dry_run, changes) {
            (true, 1..) => Err(ProgramError::WouldChange(changes)),
            _ => Ok(()),
        }
    }
}

/// What is to be done, and how a person reads it.
#[derive(Default)]
struct Plan {
    lines: Vec<(Tone, String)>,
    /// What ends, what changes, and what begins; in this order one trigger never has two.
    steps: Vec<Step>,
}

impl Project {
    fn of(row: &Value) -> Self {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let members = row["members"].as_array().into_iter().flatten();
        Self {
            project_id: text(row, "project_id"),
            name: Some(text(row, "name")),
            roles_action_override: row["roles_action_override"].as_bool(),
            role_slugs: Some(slugs(row)),
            members: Some(members.map(|member| Member { email: text(member, "email"), role: text(member, "role") }).collect()),
            actions: row["actions"].as_array().into_iter().flatten().map(Action::of).collect(),
        }
    }

    fn check(&self) -> Result<(), ProgramError> {
        for (n, action) in self.actions.iter().enumerate() {
            if self.actions[..n].iter().any(|other| other.key() == action.key()) {
                let (trigger, name) = action.key();
                return Err(ProgramError::Usage(format!(
                    "project {:?} describes the action {name:?} on {trigger} twice; accepted is each name once on a trigger",
                    self.project_id
                )));
            }
        }
        Ok(())
    }

    fn plan(&self, now: Option<&Value>, prune: bool) -> Result<Plan, ProgramError> {
        let nothing = json!({"role_slugs": [], "members": [], "actions": []});
        let is_new = now.is_none();
        let now = now.unwrap_or(&nothing);
        let mut plan = Plan::default();
        self.plan_project(now, is_new, &mut plan)?;
        let known: Vec<&Value> = now["actions"].as_array().map(|all| all.iter().collect()).unwrap_or_default();
        let (mut ends, mut changes, mut begins) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in &self.actions {
            let (trigger, name) = wanted.key();
            let same: Vec<&&Value> = known.iter().filter(|row| row["trigger"] == trigger && row["name"] == name).collect();
            match same[..] {
                [] => {
                    plan.lines.push((Tone::Well, format!("+ action {trigger} {name:?}: {}", wanted.endpoint_url)));
                    begins.push(Step::Create { trigger: trigger.to_owned(), settings: Box::new(wanted.settings()) });
                }
                [row] => wanted.plan(row, &mut plan, (&mut ends, &mut changes, &mut begins)),
                _ => {
                    return Err(ProgramError::Usage(format!(
                        "project {:?} has {} actions {name:?} on {trigger}; accepted is one of a name, so rename or delete the others first",
                        self.project_id,
                        same.len()
                    )));
                }
            }
        }
        if prune {
            for row in known
                .iter()
                .filter(|row| !self.actions.iter().any(|wanted| row["trigger"] == wanted.trigger && row["name"] == *wanted.name))
            {
                plan.lines.push((Tone::Bad, format!("- action {} {:?}", screen::text(row, "trigger"), screen::text(row, "name"))));
                ends.push(Step::Delete { action_id: screen::text(row, "action_id") });
            }
        }
        plan.steps.extend(ends.into_iter().chain(changes).chain(begins));
        Ok(plan)
    }

    fn plan_project(&self, now: &Value, is_new: bool, plan: &mut Plan) -> Result<(), ProgramError> {
        let name = match (&self.name, now["name"].as_str()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => {
                return Err(ProgramError::Usage(format!("project {:?} is new and has no name; accepted is a text", self.project_id)));
            }
        };
        let overrides = self.roles_action_override.or(now["roles_action_override"].as_bool()).unwrap_or(false);
        if is_new || now["name"] != *name || now["roles_action_override"] != overrides {
            if is_new {
                plan.lines.push((Tone::Well, format!("+ project {name:?}")));
            }
            for (field, value) in [("name", json!(name)), ("roles_action_override", json!(overrides))] {
                if !is_new && now[field] != value {
                    plan.lines.push((Tone::Warning, format!("~ {field}: {} -> {value}", now[field])));
                }
            }
            plan.steps.push(Step::Project { name, roles_action_override: overrides });
        }
        if let Some(wanted) = &self.role_slugs {
            let (mut wanted, mut known) = (wanted.clone(), slugs(now));
            wanted.sort();
            wanted.dedup();
            known.sort();
            if wanted != known {
                plan.lines.push((Tone::Warning, format!("~ role_slugs: {} -> {}", known.join(", "), wanted.join(", "))));
                plan.steps.push(Step::Roles(wanted));
            }
        }
        if let Some(members) = &self.members {
            let (wanted, known) = (one_each(members), one_each(&Self::of(now).members.unwrap_or_default()));
            if wanted != known {
                for gone in known.iter().filter(|member| !wanted.contains(member)) {
                    plan.lines.push((Tone::Bad, format!("- member {} {}", gone.email, gone.role)));
                }
                for new in wanted.iter().filter(|member| !known.contains(member)) {
                    plan.lines.push((Tone::Well, format!("+ member {} {}", new.email, new.role)));
                }
                plan.steps.push(Step::Members(json!(members)));
            }
        }
        Ok(())
    }
}

/// As the interface keeps them: one row a mailbox, whatever its letters' case, and of two the last.
fn one_each(members: &[Member]) -> Vec<Member> {
    let by_mailbox: BTreeMap<String, &Member> = members.iter().map(|member| (member.email.to_ascii_lowercase(), member)).collect();
    by_mailbox.into_values().cloned().collect()
}

fn slugs(row: &Value) -> Vec<String> {
    row["role_slugs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Action {
    fn of(row: &Value) -> Self {
        let text = |field: &str| row[field].as_str().map(str::to_owned);
        let number = |field: &str| row[field].as_i64().and_then(|number| i32::try_from(number).ok());
        Self {
            trigger: text("trigger").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            endpoint_url: text("endpoint_url").unwrap_or_default(),
            timeout_ms: number("timeout_ms"),
            fail_mode: text("fail_mode"),
            on_killed: text("on_killed"),
            require_response_signature: row["require_response_signature"].as_bool(),
            check_every_s: number("check_every_s"),
            condition: text("condition"),
            record_events: number("record_events"),
            record_hours: number("record_hours"),
            last_known_s: number("last_known_s"),
            recovery: text("recovery"),
            enabled: row["enabled"].as_bool(),
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.trigger, &self.name)
    }

    /// Of what is given, by SQL's names; nothing of `enabled`, which is no part of a version.
    fn given(&self) -> Map<String, Value> {
        let condition = self.condition.as_ref().map(|text| if text.is_empty() { Value::Null } else { json!(text) });
        let all = [
            ("endpoint_url", Some(json!(self.endpoint_url))),
            ("timeout_ms", self.timeout_ms.map(Value::from)),
            ("fail_mode", self.fail_mode.clone().map(Value::from)),
            ("on_killed", self.on_killed.clone().map(Value::from)),
            ("require_response_signature", self.require_response_signature.map(Value::from)),
            ("check_every_s", self.check_every_s.map(Value::from)),
            ("condition", condition),
            ("record_events", self.record_events.map(Value::from)),
            ("record_hours", self.record_hours.map(Value::from)),
            ("last_known_s", self.last_known_s.map(Value::from)),
            ("recovery", self.recovery.clone().map(Value::from)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint_url: self.endpoint_url.clone(),
            name: self.name.clone(),
            timeout_ms: self.timeout_ms.unwrap_or(2000),
            fail_mode: self.fail_mode.clone().unwrap_or_else(|| "open".to_owned()),
            on_killed: self.on_killed.clone().unwrap_or_else(|| "skip".to_owned()),
            require_response_signature: self.require_response_signature.unwrap_or(false),
            condition: self.condition.clone().filter(|text| !text.is_empty()),
            record_events: self.record_events.unwrap_or(0),
            record_hours: self.record_hours.unwrap_or(24),
            last_known_s: self.last_known_s.unwrap_or(0),
            recovery: self.recovery.clone().unwrap_or_else(|| "manual".to_owned()),
            check_every_s: self.check_every_s.unwrap_or(0),
            enabled: self.enabled.unwrap_or(true),
        }
    }

    fn plan(&self, row: &Value, plan: &mut Plan, (ends, changes, begins): (&mut Vec<Step>, &mut Vec<Step>, &mut Vec<Step>)) {
        let action_id = screen::text(row, "action_id");
        let differing: Map<String, Value> = self.given().into_iter().filter(|(name, value)| row[name] != *value).collect();
        let mut said: Vec<String> = differing.iter().map(|(name, value)| format!("{name} {} -> {value}", row[name])).collect();
        if !differing.is_empty() {
            changes.push(Step::Update { action_id: action_id.clone(), changes: Value::Object(differing) });
        }
        if let Some(enabled) = self.enabled.filter(|enabled| row["enabled"] != *enabled) {
            said.push(format!("enabled {} -> {enabled}", row["enabled"]));
            if enabled { begins } else { ends }.push(Step::SetEnabled { action_id, enabled });
        }
        if !said.is_empty() {
            plan.lines.push((Tone::Warning, format!("~ action {} {:?}: {}", self.trigger, self.name, said.join(", "))));
        }
    }
}

impl Format {
    fn read(self, text: &str) -> Result<Document, String> {
        match self {
            Self::Toml => toml::from_str(text).map_err(|error| error.to_string()),
            Self::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        }
    }

    fn write(self, document: &Document) -> Result<String, ProgramError> {
        match self {
            Self::Toml => toml::to_string(document).map_err(|error| ProgramError::Failed(error.to_string())),
            Self::Yaml => serde_saphyr::to_string(document).map_err(|error| ProgramError::Failed(error.to_string())),
        }
    }
}

//! `actionsctl config show`: what a program would run with, and why.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{say, screen};
use crate::config::shown;
use crate::program::ProgramError;

/// Look at the configuration.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    /// Print a JSON array of {"key", "value", "origin"}.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key with its value and where it comes from; secrets and passwords are hidden.
    #[command(after_help = "Needs no database. Run it with a program's own --config and environment.\n\n\
            Examples:\n  actionsctl --config /etc/authio-actions.toml config show\n  \
            actionsctl config show --json | jq '.[] | select(.origin != \"default\")'")]
    Show,
}

impl ConfigCommand {
    pub fn run(self, file: Option<&Path>) -> Result<(), ProgramError> {
        let Command::Show = self.command;
        let text = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let all = shown::shown(file, text)?;
        if self.json {
            let rows: Vec<String> =
                all.iter().map(|one| json!({"key": one.key, "value": one.value, "origin": one.origin}).to_string()).collect();
            screen::json_array(&rows);
            return Ok(());
        }
        let mut section = "";
        for one in &all {
            let (of, name) = one.key.split_once('.').unwrap_or(("", &one.key));
            if of != section {
                say(screen::bold(&format!("[{of}]")));
                section = of;
            }
            let value = if one.value.is_null() { "-".to_owned() } else { screen::plain(&one.value.to_string()) };
            say(format_args!("  {name:<24}  {value}  ({})", screen::plain(&one.origin)));
        }
        Ok(())
    }
}

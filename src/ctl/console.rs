//! `actionsctl console link`: lets a person of one project into the console.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::sign::portal_link::PortalLink;

/// The longest that a link may wait to be used.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub struct ConsoleCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a link that lets one person into one project, once.
    ///
    /// It is signed with a key derived from the root key; no database is asked.
    #[command(after_help = "Example:\n  actionsctl console link --project proj_acme_prod --email ada@acme.com --role admin --ttl 15m")]
    Link(Link),
}

#[derive(Debug, Args)]
struct Link {
    /// The project that it opens.
    #[arg(long, value_name = "PROJECT")]
    project: String,
    /// The person, as the audit log will name her.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    email: String,
    /// Owners and admins may change the project, viewers look.
    #[arg(long)]
    role: Role,
    /// How long it may wait to be used: 90s, 15m or 2h, at most 24h.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = ttl)]
    ttl: Duration,
    /// Print {"url","expires_at"}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Owner,
    Admin,
    Viewer,
}

impl ConsoleCommand {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let Command::Link(link) = self.command;
        let expires_at = OffsetDateTime::now_utc() + link.ttl;
        let role = match link.role {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Viewer => "viewer",
        };
        let content = PortalLink {
            id: uuid::Uuid::new_v4(),
            project: link.project,
            email: link.email,
            role: role.to_owned(),
            expires_unix: expires_at.unix_timestamp() as f64,
        };
        let url = format!("{}/enter/{}", config.console.base(), content.token(&config.root_keys()?));
        if link.json {
            screen::json(&json!({ "url": url, "expires_at": expires_at.format(&Rfc3339).unwrap_or_default() }).to_string());
        } else {
            say(url);
        }
        Ok(())
    }
}

fn address(text: &str) -> Result<String, String> {
    let is_address = text.len() <= 320 && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !is_address || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("accepted is an e-mail address such as ada@acme.com".to_owned());
    }
    Ok(text.to_owned())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let refused = || "accepted are 90s, 15m and 2h, from 1s to 24h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(refused()),
    };
    let seconds = text[..text.len() - 1].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).filter(|ttl| !ttl.is_zero() && *ttl <= LONGEST).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_lives_from_a_second_to_a_day() {
        assert_eq!(ttl("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(ttl("24h"), Ok(LONGEST));
        for wrong in ["", "0m", "25h", "86401s", "15", "m", "-1m", "1d", "99999999999999999999h", "1\u{e9}"] {
            assert!(ttl(wrong).is_err_and(|why| why.contains("24h")), "{wrong}");
        }
        assert!(address("ada@acme.com").is_ok());
        for wrong in ["ada", "@acme.com", "ada@", "a da@acme.com"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}

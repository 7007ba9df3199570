//! `actionsctl check-url`: one JSON line for each URL.

use std::io::BufRead;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::say;
use crate::config::Config;
use crate::egress::{Addresses, Checked, Egress};
use crate::program::ProgramError;

/// As long as the longest call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Say what the fleet would say to a URL.
///
/// Prints one JSON line for each: {"url", "verdict": "allowed" | "ssrf_blocked" | "invalid",
/// "reason"}. Exit status is 0 whatever it says, or with --fail 1 if any URL is not allowed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  actionsctl check-url https://hooks.acme.com/authio\n  actionsctl check-url --no-dns - < urls.txt\n  \
    actionsctl check-url --answers 10.0.0.7,203.0.114.9 https://hooks.acme.com/\n  \
    actionsctl check-url --fail --no-dns https://hooks.acme.com/authio && echo 'may be saved'")]
pub struct CheckUrl {
    /// URLs, or - to read them from standard input, one a line.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Decide on these DNS answers instead of asking.
    #[arg(long, value_name = "IP,IP", value_delimiter = ',', conflicts_with = "no_dns")]
    answers: Option<Vec<IpAddr>>,
    /// Decide on the name alone.
    #[arg(long)]
    no_dns: bool,
    /// Exit status 1 if any URL is not allowed, for scripts.
    #[arg(long)]
    fail: bool,
    /// Print JSON lines, as it always does.
    #[arg(long)]
    json: bool,
}

fn print(url: &str, verdict: &str, reason: &str) {
    say(json!({"url": url, "verdict": verdict, "reason": reason}));
}

impl CheckUrl {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let egress = Egress::new(&config.egress)?;
        let mut refused = 0;
        for url in &self.urls {
            if url == "-" {
                for line in std::io::stdin().lock().split(b'\n') {
                    let line = line.map_err(|error| ProgramError::Failed(format!("standard input: {error}")))?;
                    let line = line.strip_suffix(b"\r").unwrap_or(&line);
                    match std::str::from_utf8(line) {
                        Ok(url) => refused += self.refused(&egress, url).await,
                        Err(_) => {
                            print(&String::from_utf8_lossy(line), "invalid", "it is not UTF-8");
                            refused += 1;
                        }
                    }
                }
            } else {
                refused += self.refused(&egress, url).await;
            }
        }
        match refused {
            some if self.fail && some > 0 => Err(ProgramError::Failed(format!("not allowed: {some}"))),
            _ => Ok(()),
        }
    }

    /// Prints what is said of a URL; 1 if it is not allowed, else 0.
    async fn refused(&self, egress: &Egress, url: &str) -> usize {
        let addresses = match &self.answers {
            _ if self.no_dns => Addresses::Left,
            Some(answers) => Addresses::Given(answers),
            None => Addresses::Asked(Instant::now() + PATIENCE),
        };
        let Checked { verdict, reason } = egress.check(url, addresses).await;
        print(url, verdict, &reason);
        usize::from(verdict != "allowed")
    }
}

//! `actionsctl sign` and `actionsctl verify`: the same code as the fleet's, for a customer's
//! local tests.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::say;
use crate::domain::SignatureCheck;
use crate::program::ProgramError;
use crate::sign::{self, Secret};

/// The variable that keeps a secret out of the process list.
pub(super) const SECRET_VARIABLE: &str = "AUTHIO_ACTION_SECRET";

/// Where a secret and a body come from.
#[derive(Debug, Args)]
struct Input {
    /// The action's secret, asec_…; better in the variable AUTHIO_ACTION_SECRET, where the
    /// process list does not show it.
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true, value_name = "SECRET")]
    secret: Vec<String>,
    /// File with the raw body; - is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    body: PathBuf,
    /// Print one JSON object; verify always does.
    #[arg(long)]
    json: bool,
}

/// Make the signature header of a body.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  AUTHIO_ACTION_SECRET=asec_… actionsctl sign --body event.json\n\nIn a rotation give --secret twice: the new one first, the previous one last."
)]
pub struct Sign {
    #[command(flatten)]
    input: Input,
    /// Seconds since 1970; default is now.
    #[arg(long, value_name = "SECONDS")]
    time: Option<i64>,
}

/// Check a signature header, and say what is wrong with it.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints {\"valid\", \"fault\": \"form\" | \"secret or body\" | \"time\", \"reason\"}; exit status 1 if not valid.\n\n\
    Example:\n  AUTHIO_ACTION_SECRET=asec_… actionsctl verify --header 't=…,v1=…' --body event.json"
)]
pub struct Verify {
    #[command(flatten)]
    input: Input,
    /// The header's value.
    #[arg(long, value_name = "HEADER")]
    header: String,
    /// Seconds since 1970 to compare with; default is now.
    #[arg(long, value_name = "SECONDS")]
    time: Option<i64>,
}

impl Input {
    fn read(&self) -> Result<(Vec<Secret>, Vec<u8>), ProgramError> {
        if self.secret.is_empty() {
            return Err(ProgramError::Usage(format!("no secret was given; set {SECRET_VARIABLE} or pass --secret")));
        }
        Ok((self.secret.iter().map(|text| Secret::from_text(text)).collect(), read(&self.body)?))
    }
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ProgramError> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|read| bytes = read)
    };
    result.map_err(|error| ProgramError::Usage(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

impl Sign {
    pub fn run(self) -> Result<(), ProgramError> {
        let (secrets, body) = self.input.read()?;
        let header = sign::header(&secrets.iter().collect::<Vec<_>>(), self.time.unwrap_or_else(now), &body);
        say(if self.input.json { json!({"header": header}).to_string() } else { header });
        Ok(())
    }
}

impl Verify {
    pub fn run(self) -> Result<(), ProgramError> {
        let (secrets, body) = self.input.read()?;
        let secrets: Vec<&Secret> = secrets.iter().collect();
        let at = self.time.unwrap_or_else(now);
        let (fault, reason) = match sign::verify(std::slice::from_ref(&self.header), &body, &secrets, at) {
            SignatureCheck::Valid { .. } => {
                say(json!({"valid": true}));
                return Ok(());
            }
            SignatureCheck::Absent => ("form", "there is no header".to_owned()),
            SignatureCheck::Malformed(why) => ("form", why),
            SignatureCheck::Stale(why) => ("time", why),
            SignatureCheck::Refused(why) => ("secret or body", why),
        };
        say(json!({"valid": false, "fault": fault, "reason": reason}));
        Err(ProgramError::Failed(format!("the signature is not valid: {reason}")))
    }
}

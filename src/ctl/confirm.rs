//! The question before what cannot be undone. Whoever is not at a terminal answers beforehand,
//! with `--yes`: a script that forgot it stops instead of deleting.

use std::io::{IsTerminal, Write};

use clap::Args;

use crate::program::ProgramError;

/// The answer given beforehand.
#[derive(Debug, Args)]
pub struct Consent {
    /// Do what cannot be undone without asking; needed where nobody can be asked.
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Goes on, or ends the command: `what` cannot be undone.
    pub fn to(&self, what: &str) -> Result<(), ProgramError> {
        let is_attended = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        decide(self.yes, is_attended, what, || ask(what))
    }
}

fn decide(is_given: bool, is_attended: bool, what: &str, ask: impl FnOnce() -> bool) -> Result<(), ProgramError> {
    match (is_given, is_attended) {
        (true, _) => Ok(()),
        (false, true) if ask() => Ok(()),
        (false, true) => Err(ProgramError::Failed("nothing was changed".to_owned())),
        (false, false) => {
            Err(ProgramError::Usage(format!("{what} This cannot be undone, and there is no terminal to ask at; give --yes to do it")))
        }
    }
}

fn ask(what: &str) -> bool {
    eprint!("{what} This cannot be undone. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_and_a_script_must_have_said_yes() {
        let never = || panic!("nobody is asked");
        assert!(decide(true, true, "X.", never).is_ok() && decide(true, false, "X.", never).is_ok());
        assert!(decide(false, true, "X.", || true).is_ok());
        assert!(matches!(decide(false, true, "X.", || false), Err(ProgramError::Failed(_))));
        assert!(matches!(decide(false, false, "X.", never), Err(ProgramError::Usage(why)) if why.contains("--yes")));
    }
}

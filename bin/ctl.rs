//! actionsctl: the operator's tool.

use std::process::ExitCode;

use authio_actions::{ctl, program};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = ctl::Arguments::parse();
    program::run("actionsctl", async || ctl::run(arguments).await)
}

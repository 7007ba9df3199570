//! `actionsctl schema`: needs neither a configuration nor a database.

use clap::Args;

use super::say;
use crate::schema::Document;

pub const EXAMPLES: &str = "Examples:\n  actionsctl schema verdict > verdict.schema.json\n  \
    actionsctl schema openapi | npx @redocly/cli lint /dev/stdin";

/// Prints JSON Schema 2020-12, or OpenAPI 3.1.
#[derive(Debug, Args)]
pub struct Schema {
    /// What is described.
    document: Document,
}

impl Schema {
    pub fn run(&self) {
        say(format_args!("{:#}", self.document.to_json()));
    }
}

//! `actionsctl migrate`

use super::say;
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::schema;

pub async fn run(config: &Config) -> Result<(), ProgramError> {
    let migrated = schema::migrate(config.database_url()?, |version, name| say(format_args!("  {version:>4}  {name}"))).await?;
    if migrated.from == migrated.to {
        say(format_args!("The schema is at version {} already.", migrated.to));
    } else {
        say(format_args!("The schema went from version {} to {}.", migrated.from, migrated.to));
    }
    Ok(())
}

//! What the login is permitted, and what settings it and auth-core's logins bring along.

use super::Finding::{self, Failure, Ok as Well, Warning};
use crate::store::login_settings::{self, Harmful};
use crate::store::rights::{self, Role};
use crate::store::{Database, StoreError};

/// So many rights are named; the others are counted.
const NAMED: usize = 3;

/// The login's group roles, and whether it has all that their programs need.
pub(super) async fn roles(database: &Database, roles: &[Role]) -> Finding {
    match of_roles(database, roles).await {
        Ok(finding) => finding,
        Err(error) => Failure(error.to_string()),
    }
}

async fn of_roles(database: &Database, roles: &[Role]) -> Result<Finding, StoreError> {
    if roles.is_empty() {
        return Ok(Failure(
            "this login has none; as the owner: grant actions_worker (or _janitor, _core, _admin, _ops, _console) to it".to_owned(),
        ));
    }
    let unused: Vec<&str> = roles.iter().filter(|role| !role.has_usage).map(|role| role.name.as_str()).collect();
    if !unused.is_empty() {
        let remedies = rights::remedies(database).await?;
        return Ok(Failure(format!(
            "this login is in {} but does not inherit its rights; as the owner: {}",
            unused.join(", "),
            remedies.join("; ")
        )));
    }
    let lacking = rights::lacking(database, roles).await?;
    if !lacking.is_empty() {
        let named = lacking.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = lacking.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Ok(Failure(format!("this login lacks {named}{more}; as the owner: actionsctl migrate, which grants each time")));
    }
    Ok(Well(roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>().join(", ")))
}

/// Settings of the database, of all, or of a login of ours that our statements cannot bear.
pub(super) async fn settings(database: &Database) -> Finding {
    match login_settings::harmful(database).await {
        Ok(found) => of_settings(&found),
        Err(error) => Failure(error.to_string()),
    }
}

fn of_settings(found: &[Harmful]) -> Finding {
    let one = |harmful: &Harmful| {
        let Harmful { whose, name, value, remedy, breaks } = harmful;
        let harm = if *breaks { "breaks our statements" } else { "ends what somebody still waits for" };
        format!("{whose} has {name} = {value}, which {harm}: {remedy}")
    };
    let text = found.iter().map(one).collect::<Vec<_>>().join("; ");
    if found.iter().any(|harmful| harmful.breaks) {
        Failure(text)
    } else if found.is_empty() {
        Well("no login or database changes what our statements rely on".to_owned())
    } else {
        Warning(text)
    }
}

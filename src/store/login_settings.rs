//! Settings that logins bring along and our statements cannot bear. Called by `actionsctl doctor`.
//!
//! The fleet's own sessions set theirs at start; an SQL client of auth-core, and whoever comes
//! through a pooler, has what the login, the database or the server says.

use super::params::params;
use super::rights::RIGHTS;
use super::{Database, StoreError};

/// Timeouts that are shorter end what somebody still waits for.
const SHORTEST_MS: f64 = 10_000.0;

/// What is set for the database, for all, or for a login of one of our groups ($1); then what this
/// session would have without its own: `reset_val` is what the connection began with.
pub const SETTINGS: &str = "-- doctor: settings of logins, of the database and of this session
select s.whose, s.name, s.value, s.remedy
from (
  select 1, case
      when s.setrole = 0 and s.setdatabase = 0 then 'every login'
      when s.setrole = 0 then format('database %I', d.datname)
      else format('login %I', r.rolname) end,
    c.name, c.value, case
      when s.setrole = 0 and s.setdatabase = 0 then format('alter role all reset %I', c.name)
      when s.setrole = 0 then format('alter database %I reset %I', d.datname, c.name)
      when s.setdatabase = 0 then format('alter role %I reset %I', r.rolname, c.name)
      else format('alter role %I in database %I reset %I', r.rolname, d.datname, c.name) end
  from pg_db_role_setting as s
  left join pg_roles as r on r.oid = s.setrole
  left join pg_database as d on d.oid = s.setdatabase
  cross join lateral (
    select left(setting, strpos(setting, '=') - 1), substr(setting, strpos(setting, '=') + 1) from unnest(s.setconfig) as setting
  ) as c (name, value)
  where (s.setdatabase = 0 or d.datname = current_database())
    and (s.setrole = 0 or r.rolname = current_user or r.rolcanlogin and not r.rolsuper and exists (
      select from pg_roles as g where g.rolname = any($1::text[]) and pg_has_role(r.oid, g.oid, 'member')))
  union all
  select 2, 'this session', p.name, p.reset_val,
    format('take it out of postgresql.conf or of the options in database.url, or: alter system reset %I', p.name)
  from pg_settings as p
) as s (place, whose, name, value, remedy)
where s.name = any($2::text[])
order by s.place, s.whose, s.name";

/// Settings that may do harm.
const NAMES: [&str; 8] = [
    "default_transaction_isolation",
    "default_transaction_read_only",
    "standard_conforming_strings",
    "session_replication_role",
    "statement_timeout",
    "lock_timeout",
    "idle_session_timeout",
    "transaction_timeout",
];

/// A setting that does harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Harmful {
    /// A login, the database, every login, or this session.
    pub whose: String,
    pub name: String,
    pub value: String,
    /// The statement that takes it back.
    pub remedy: String,
    /// It breaks statements, rather than ending slow ones.
    pub breaks: bool,
}

/// Settings that do harm to this login, or to another of our groups.
pub async fn harmful(database: &Database) -> Result<Vec<Harmful>, StoreError> {
    let groups: Vec<&str> = RIGHTS.iter().map(|rights| rights.role).collect();
    let mut harmful: Vec<Harmful> = Vec::new();
    for row in &database.rows(SETTINGS, params![groups, NAMES.to_vec()]).await? {
        let [whose, name, value, remedy]: [String; 4] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        let Some(breaks) = harm(&name, &value) else { continue };
        // A session has what was set for its login; then that is told.
        if whose != "this session" || harmful.iter().all(|known| known.name != name) {
            harmful.push(Harmful { whose, name, value, remedy, breaks });
        }
    }
    Ok(harmful)
}

/// `None` where the value does no harm, else whether it breaks statements.
fn harm(name: &str, value: &str) -> Option<bool> {
    let value = value.trim().to_ascii_lowercase();
    let is_off = || ["off", "false", "no", "0"].iter().any(|off| !value.is_empty() && value != "o" && off.starts_with(&value));
    let breaks = match name {
        "default_transaction_isolation" => value != "read committed",
        "default_transaction_read_only" => !is_off(),
        "standard_conforming_strings" => is_off(),
        "session_replication_role" => value != "origin",
        _ => return milliseconds(&value).is_some_and(|ms| ms > 0.0 && ms < SHORTEST_MS).then_some(false),
    };
    breaks.then_some(true)
}

/// A duration as PostgreSQL reads it: milliseconds, or with a unit.
fn milliseconds(value: &str) -> Option<f64> {
    let (number, unit) = value.split_at(value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len()));
    let scale = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1e3,
        "min" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    Some(number.trim().parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_breaks_or_ends_statements_is_harmful() {
        for (name, value, wanted) in [
            ("default_transaction_isolation", "Serializable", Some(true)),
            ("default_transaction_isolation", "read committed", None),
            ("default_transaction_read_only", "on", Some(true)),
            ("default_transaction_read_only", "t", Some(true)),
            ("default_transaction_read_only", "of", None),
            ("standard_conforming_strings", "off", Some(true)),
            ("standard_conforming_strings", "on", None),
            ("session_replication_role", "replica", Some(true)),
            ("session_replication_role", "origin", None),
            ("statement_timeout", "0", None),
            ("statement_timeout", "9999", Some(false)),
            ("statement_timeout", "10s", None),
            ("lock_timeout", "1.5 s", Some(false)),
            ("idle_session_timeout", "1min", None),
            ("transaction_timeout", "500us", Some(false)),
        ] {
            assert_eq!(harm(name, value), wanted, "{name} = {value}");
        }
    }
}

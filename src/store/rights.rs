//! What each group role may do, and what of it a login lacks.
//!
//! `actionsctl doctor` asks it of its own login; a test holds the list to `migrations/grants.sql`,
//! in both directions.

use super::params::params;
use super::{Database, StoreError, scalars};

/// One group role and its rights.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    pub role: &'static str,
    /// Relations with what the role may do there: `r` select, `a` insert, `w` update, `d` delete;
    /// the first three of some columns at least.
    relations: &'static str,
    /// Functions that the role may call.
    functions: &'static str,
}

impl Rights {
    /// Each relation with its rights, by name.
    pub fn relations(&self) -> Vec<(&'static str, &'static str)> {
        self.relations.split_whitespace().filter_map(|relation| relation.split_once(':')).collect()
    }

    /// Each function, by name.
    pub fn functions(&self) -> Vec<&'static str> {
        self.functions.split_whitespace().collect()
    }

    /// The schemas in which all this lives.
    fn schemas(&self) -> Vec<&'static str> {
        let names = self.relations.split_whitespace().chain(self.functions.split_whitespace());
        let mut schemas: Vec<_> = names.filter_map(|name| Some(name.split_once('.')?.0)).collect();
        schemas.sort_unstable();
        schemas.dedup();
        schemas
    }
}

/// Every group role with all that it may do, and nothing else.
pub const RIGHTS: [Rights; 6] = [
    Rights {
        role: "actions_core",
        relations: "",
        functions: "actions.abandon actions.abandon_many actions.enqueue actions.enqueue_again actions.enqueue_many \
            actions.oldest_program actions.result actions.results actions.schema_version actions.server_epoch",
    },
    Rights {
        role: "actions_worker",
        relations: "actions_private.action_versions:r actions_private.actions:rw actions_private.audit_log:raw \
            actions_private.invocations:r actions_private.processes:rawd actions_private.projects:r \
            actions_private.server_epoch:r actions_private.settings:r",
        functions: "actions.oldest_program actions.schema_version actions_private.claim actions_private.complete \
            actions_private.current_server_epoch actions_private.id_time actions_private.keep_candidate_results \
            actions_private.keep_events actions_private.keep_last_known actions_private.last_known_of actions_private.letters \
            actions_private.may_notify actions_private.notify_queue_usage",
    },
    Rights {
        role: "actions_janitor",
        relations: "actions.action_health:r actions.actions:r actions.audit_log:r actions.candidate_results:r \
            actions.candidates:r actions.check_health:r actions.daily_counts:r actions.erasures:r actions.fleet:r \
            actions.fleet_health:r actions.latency:r actions.mails:r actions.projects:r actions.queue_health:r \
            actions.recent_invocations:r actions.recorded_events:r actions.traffic:r actions.versions:r \
            actions_private.action_versions:r actions_private.actions:rw actions_private.audit_log:ra actions_private.calls:r \
            actions_private.candidate_results:r actions_private.candidates:r actions_private.checks:r \
            actions_private.console_links_used:r actions_private.console_sessions:r actions_private.counted_until:r \
            actions_private.daily_counts:r actions_private.enqueue_requests:r actions_private.erasures:r \
            actions_private.event_keys:r actions_private.invocations:ra actions_private.kill_figures:r \
            actions_private.kill_holds:raw actions_private.leadership:rw actions_private.mail_outbox:raw \
            actions_private.migrations:r actions_private.probes:r actions_private.processes:rawd \
            actions_private.project_members:r actions_private.projects:r actions_private.queue:rwd \
            actions_private.replaced_files:r actions_private.server_epoch:r actions_private.settings:rw \
            actions_private.traffic:r",
        functions: "actions.oldest_program actions.oldest_snapshot_s actions.schema_version actions_private.breaks_glass \
            actions_private.can_deny actions_private.canaries actions_private.count_next actions_private.current_server_epoch \
            actions_private.customers_of actions_private.days_to_make actions_private.drop_partitions \
            actions_private.end_overlaps actions_private.end_past_deadline actions_private.end_probing \
            actions_private.end_queued_of_killed actions_private.end_without_verdict actions_private.erase_next \
            actions_private.forget_event_keys actions_private.forget_old actions_private.forget_trials \
            actions_private.free_kills actions_private.hold_kills actions_private.id_time actions_private.kill_action \
            actions_private.leads actions_private.letters actions_private.make_partition actions_private.may_notify \
            actions_private.notify_queue_usage actions_private.outcome_of_broken_glass actions_private.outcome_without_verdict \
            actions_private.probe actions_private.recent_seconds actions_private.send_checks actions_private.sweep_default \
            actions_private.take_lead actions_private.to_be_told actions_private.user_of actions_private.warn \
            actions_private.withdraw_canary actions_private.write_audit",
    },
    Rights {
        role: "actions_admin",
        relations: "actions.actions:r actions.audit_log:r actions.candidate_results:r actions.candidates:r actions.erasures:r \
            actions.projects:r actions.recorded_events:r actions.versions:r",
        functions: "actions.break_glass actions.by_event actions.create_action actions.delete_action actions.delete_project \
            actions.find_invocations actions.finish_rotation actions.forget_events actions.kill_action \
            actions.note_secret_revealed actions.oldest_program actions.project_members actions.promote_candidate actions.recent \
            actions.record_secret actions.reenable_action actions.result actions.results actions.rotate_secret \
            actions.schema_version actions.send_test_event actions.set_break_glass actions.set_enabled \
            actions.set_project_members actions.set_project_roles actions.stage_candidate actions.swap_action \
            actions.update_action actions.upsert_project actions.withdraw_candidate actions_private.recorded_of",
    },
    Rights {
        role: "actions_ops",
        relations: "actions.action_health:r actions.actions:r actions.audit_log:r actions.candidate_results:r \
            actions.candidates:r actions.check_health:r actions.daily_counts:r actions.erasures:r actions.fleet:r \
            actions.fleet_health:r actions.latency:r actions.mails:r actions.projects:r actions.queue_health:r \
            actions.recent_invocations:r actions.recorded_events:r actions.traffic:r actions.versions:r",
        functions: "actions.by_event actions.find_invocations actions.oldest_program actions.oldest_snapshot_s actions.recent \
            actions.schema_version",
    },
    Rights {
        role: "actions_console",
        relations: "actions.action_health:r actions.actions:r actions.audit_log:r actions.candidate_results:r \
            actions.candidates:r actions.daily_counts:r actions.fleet:r actions.fleet_health:r actions.latency:r actions.mails:r \
            actions.projects:r actions.queue_health:r actions.recent_invocations:r actions.recorded_events:r actions.traffic:r \
            actions.versions:r actions_private.action_versions:r actions_private.console_links_used:rad \
            actions_private.console_sessions:rad actions_private.project_members:r",
        functions: "actions.break_glass actions.by_event actions.create_action actions.delete_action actions.finish_rotation \
            actions.forget_events actions.kill_action actions.note_secret_revealed actions.oldest_program \
            actions.oldest_snapshot_s actions.project_members actions.promote_candidate actions.record_secret \
            actions.reenable_action actions.rotate_secret actions.schema_version actions.send_test_event actions.set_break_glass \
            actions.set_enabled actions.set_project_members actions.set_project_roles actions.stage_candidate \
            actions.update_action actions.upsert_project actions.withdraw_candidate actions_private.filtered_invocations actions_private.is_met \
            actions_private.recorded_of actions_private.refuse_condition",
    },
];

/// Group roles that the login is in. A member that does not inherit may do nothing until `set role`,
/// which no program says.
pub const ROLES: &str = "-- doctor: group roles of this login
select r.rolname::text, pg_has_role(r.oid, 'usage')
from pg_roles as r
where r.rolname = any($1::text[]) and pg_has_role(r.oid, 'member')
order by r.rolname";

/// Where the way from the login to a group role stops to inherit, each as the statement that mends
/// it. Since PostgreSQL 16 each membership says it for itself, before it was the member.
pub const STOPS: &str = "-- doctor: memberships that pass no rights on
with recursive way as (
  select m.member, m.roleid, to_jsonb(m) as membership
  from pg_auth_members as m
  join pg_roles as r on r.oid = m.roleid
  where r.rolname = any($1::text[]) and pg_has_role(r.oid, 'member') and not pg_has_role(r.oid, 'usage')
  union
  select m.member, m.roleid, to_jsonb(m)
  from way as w join pg_auth_members as m on m.roleid = w.member
)
select distinct case
    when w.membership ? 'inherit_option' then format('grant %s to %s with inherit true', w.roleid::regrole, w.member::regrole)
    else format('alter role %s inherit', w.member::regrole) end
from way as w
join pg_roles as r on r.oid = w.member
where pg_has_role(w.member, 'member') and not coalesce((w.membership ->> 'inherit_option')::boolean, r.rolinherit)
order by 1";

/// What of schemas ($1), relations ($2) with their rights ($3) and functions ($4) the login lacks.
/// Nothing where the schema is not there at all: that is another fault.
pub const LACKING: &str = "-- doctor: rights that this login lacks
select l.what
from (
  select 1, 'usage on schema ' || w.name
  from unnest($1::text[]) as w (name)
  left join pg_namespace as n on n.nspname = w.name
  where n.oid is null or not has_schema_privilege(n.oid, 'usage')
  union all
  select 2, p.privilege || ' on ' || w.name
  from unnest($2::text[], $3::text[]) as w (name, letters)
  join (values ('r', 'select'), ('a', 'insert'), ('w', 'update'), ('d', 'delete')) as p (letter, privilege)
    on strpos(w.letters, p.letter) > 0
  left join (pg_class as c join pg_namespace as n on n.oid = c.relnamespace) on w.name = n.nspname || '.' || c.relname
  where c.oid is null
    or not case p.letter when 'd' then has_table_privilege(c.oid, 'delete') else has_any_column_privilege(c.oid, p.privilege) end
  union all
  select 3, 'execute on function ' || w.name
  from unnest($4::text[]) as w (name)
  left join (pg_proc as p join pg_namespace as n on n.oid = p.pronamespace) on w.name = n.nspname || '.' || p.proname
  group by w.name
  having bool_or(p.oid is null or not has_function_privilege(p.oid, 'execute'))
) as l (place, what)
where exists (select from pg_namespace as n where n.nspname = 'actions')
order by l.place, l.what";

/// A group role that the login is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    /// Its rights are the login's without `set role`.
    pub has_usage: bool,
}

fn names() -> Vec<&'static str> {
    RIGHTS.iter().map(|rights| rights.role).collect()
}

/// The group roles of this login.
pub async fn roles(database: &Database) -> Result<Vec<Role>, StoreError> {
    let rows = database.rows(ROLES, params![names()]).await?;
    rows.iter().map(|row| Ok(Role { name: row.try_get(0)?, has_usage: row.try_get(1)? })).collect()
}

/// The statements that let the login use the roles which it is in without their rights.
pub async fn remedies(database: &Database) -> Result<Vec<String>, StoreError> {
    scalars(&database.rows(STOPS, params![names()]).await?)
}

/// What the login lacks of what these roles may do.
pub async fn lacking(database: &Database, roles: &[Role]) -> Result<Vec<String>, StoreError> {
    let mut lacking = Vec::new();
    for rights in RIGHTS.iter().filter(|rights| roles.iter().any(|role| role.has_usage && role.name == rights.role)) {
        let (relations, letters): (Vec<_>, Vec<_>) = rights.relations().into_iter().unzip();
        let rows = database.rows(LACKING, params![rights.schemas(), relations, letters, rights.functions()]).await?;
        lacking.extend(scalars::<String>(&rows)?);
    }
    lacking.sort();
    lacking.dedup();
    Ok(lacking)
}

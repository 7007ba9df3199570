//! Faults planted into the product, each of which the checker must find. They are changes of the functions in the
//! database, so nothing is compiled for them.

use sqlx::{Executor, PgPool};

/// One fault.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    pub name: &'static str,
    /// The functions that it changes, by the beginning of their signature.
    function: &'static str,
    from: &'static str,
    to: &'static str,
}

pub const ALL: [Mutation; 10] = [
    Mutation {
        name: "claims_what_is_claimed",
        function: "actions_private.claim(",
        from: "where q.claim_token is null and q.id",
        to: "where q.id",
    },
    Mutation {
        name: "fails_closed_open",
        function: "actions_private.outcome_without_verdict(",
        from: "fail_mode = 'closed'",
        to: "fail_mode = 'never'",
    },
    Mutation {
        name: "kills_without_denying",
        function: "actions_private.outcome_without_verdict(",
        from: "on_killed = 'deny'",
        to: "on_killed = 'never'",
    },
    Mutation { name: "loses_outcomes", function: "actions_private.complete(", from: "outcomes[1]::json", to: "null::json" },
    Mutation {
        name: "abandons_nobody",
        function: "actions.abandon_many(",
        from: "q.id = any (invocation_ids) order by q.id for update",
        to: "false order by q.id for update",
    },
    Mutation {
        name: "forgets_those_who_left",
        function: "actions_private.end_past_deadline(",
        from: "and q.deadline_at < overdue",
        to: "and q.deadline_at < overdue and false",
    },
    Mutation {
        name: "acknowledges_what_it_does_not_write",
        function: "actions.enqueue(",
        from: "return next row('inv_' || name",
        to: "if hashtext(name) % 50 = 0 then delete from actions_private.queue as q where q.id = 'inv_' || name; end if;\n  return next row('inv_' || name",
    },
    Mutation {
        name: "tells_everybody_to_go_on",
        function: "actions.results(",
        from: "actions_private.outcome_of(i.status, i.outcome)",
        to: "'{\"decision\":\"allow\",\"source\":\"verdict\",\"status\":\"ok\"}'::json",
    },
    Mutation { name: "knows_no_repetition", function: "actions.enqueue(", from: "if event_id is not null then", to: "if false then" },
    Mutation {
        name: "skips_what_it_cannot_read",
        function: "actions_private.is_met(",
        from: "exception when others then\n  return true;",
        to: "exception when others then\n  return false;",
    },
];

impl Mutation {
    pub fn by_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|mutation| mutation.name == name)
    }

    /// Plants it.
    pub async fn plant(&self, owner: &PgPool) {
        let definitions = "select pg_get_functiondef(p.oid) from pg_proc as p
            where p.oid::regprocedure::text like $1 || '%' and p.prokind = 'f'";
        let found: Vec<String> = sqlx::query_scalar(definitions).bind(self.function).fetch_all(owner).await.expect("the catalogue");
        let mut planted = 0;
        for definition in found.iter().filter(|definition| definition.contains(self.from)) {
            owner.execute(definition.replace(self.from, self.to).as_str()).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            planted += 1;
        }
        assert!(planted > 0, "{}: {} has nothing like {:?} any more", self.name, self.function, self.from);
    }
}

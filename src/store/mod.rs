//! The only room with SQL of our own; every statement opens with its own name.
//!
//! Called by the loops (`fleet`, `janitor`, `client`, `ctl`). One prepared autocommit
//! statement an operation: BEGIN and COMMIT would be round trips, and a statement that holds
//! nothing across a call cannot leave anything open.
//!
//! Asynchronous commit is asked for inside the statements that may have it (`set_config(…,
//! true)` lasts as long as its statement): no session, no other client and no pooler's
//! connection is changed by it.

pub mod apply;
pub mod audit;
pub mod auth_core;
pub mod batching;
pub mod candidates;
pub mod catalog;
pub mod claim;
pub mod complete;
mod connection;
pub mod console;
pub mod control;
pub mod gauges;
pub mod health;
pub mod leader;
pub mod listen;
pub mod login_settings;
pub mod maintenance;
pub mod migrate;
pub mod notes;
pub mod notify;
pub mod outbox;
mod params;
pub mod pool;
pub mod processes;
pub mod projects;
pub mod rights;
pub mod schema;
pub mod secrets;
mod settings;
pub mod trials;
pub mod trying;

pub use pool::Database;

/// Why the database could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke: try again.
    #[error("the database is not reachable: {0}")]
    Unreachable(String),
    /// The statement was sent and its answer got lost: it may have been done.
    #[error("the database did not answer: {0}")]
    Unanswered(String),
    /// The database understood and refused.
    #[error("{message}{}{}", suffix("; ", detail), suffix("; hint: ", hint))]
    Refused {
        /// SQLSTATE.
        code: String,
        /// What was wrong.
        message: String,
        /// What is accepted.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// The schema is not the one this program was built for.
    #[error("{0}")]
    Schema(String),
    /// The answer has another form than this program expects.
    #[error("the database's answer was not understood: {0}")]
    Unreadable(String),
}

fn suffix(separator: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{separator}{text}") }
}

impl StoreError {
    /// Whether the connection, not the request, was at fault.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unanswered(_))
    }

    /// What became of a statement on whose way this happened is not known.
    fn on_the_way(self) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unanswered(why),
            other => other,
        }
    }

    /// Whether what was sent is at fault, so that sending it again changes nothing. All else is
    /// the state of the server: away, read only after a failover, a lock or a deadlock in the way.
    pub fn blames_request(&self) -> bool {
        // 22 data, 23 constraints, 54 sizes.
        self.has_class(&["22", "23", "54"])
    }

    /// Whether the same request may succeed a moment later: the server is away or starting, it
    /// takes no writes, or somebody is in the way. Not where the request, the login or the schema
    /// is at fault, nor where the server forgot what was asked (08007).
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unanswered(_) => true,
            Self::Refused { .. } => !self.has_class(&["08007", "22", "23", "28", "3D", "3F", "42", "54"]),
            Self::Schema(_) | Self::Unreadable(_) => false,
        }
    }

    /// Whether another connection may have what this one lacks: it is gone, it leads to a server
    /// that takes no writes (25006), or to a standby or an outdated plan (0A000).
    pub(super) fn is_of_connection(&self) -> bool {
        self.is_unreachable() || self.has_class(&["25006", "0A000"])
    }

    /// Why a connection is replaced on which this happened, in a word for metrics.
    fn why_replaced(&self) -> &'static str {
        match self {
            Self::Refused { code, message, .. } if code == "0A000" && message.contains("cached plan") => "plan_changed",
            Self::Refused { .. } => "read_only",
            _ => "lost",
        }
    }

    fn unreadable(error: impl std::fmt::Display) -> Self {
        Self::Unreadable(error.to_string())
    }

    fn has_class(&self, classes: &[&str]) -> bool {
        matches!(self, Self::Refused { code, .. } if classes.iter().any(|class| code.starts_with(class)))
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(refused) = error.as_db_error() {
            let code = refused.code().code().to_owned();
            // 08 connection, 53 resources, 57 shutdown and cancel: the server's weather.
            if code != "08007" && ["08", "53", "57"].iter().any(|class| code.starts_with(class)) {
                return Self::Unreachable(refused.message().to_owned());
            }
            let hint = match code.as_str() {
                // A statement that another session prepared, or has prepared already.
                "26000" | "42P05" => "behind a pooler that knows no prepared statements set database.prepared_statements = false",
                _ => refused.hint().unwrap_or_default(),
            };
            return Self::Refused {
                message: refused.message().to_owned(),
                detail: refused.detail().unwrap_or_default().to_owned(),
                hint: hint.to_owned(),
                code,
            };
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        // The driver says by its words alone that it could not read a column.
        if ["error deserializing", "invalid column", "error serializing", "expected "].iter().any(|start| text.starts_with(start)) {
            return Self::Unreadable(text);
        }
        Self::Unreachable(text)
    }
}

/// The first column of each row.
fn scalars<T: for<'a> tokio_postgres::types::FromSql<'a>>(rows: &[tokio_postgres::Row]) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(StoreError::from)
}

/// Every statement of this room with the role that runs it, for the test that prepares each
/// against the real schema.
pub const QUERIES: &[(&str, &str)] = &[
    ("actions_core", auth_core::ENQUEUE),
    ("actions_core", auth_core::ENQUEUE_MANY),
    ("actions_core", auth_core::EPOCH),
    ("actions_core", auth_core::ENQUEUE_AGAIN),
    ("actions_core", auth_core::RESULTS),
    ("actions_core", auth_core::ABANDON),
    ("actions_worker", catalog::ACTION_VERSIONS),
    ("actions_worker", catalog::PROJECTS),
    ("actions_worker", claim::CLAIM),
    ("actions_worker", complete::COMPLETE),
    ("actions_worker", complete::LANDED),
    ("actions_worker", notes::MORE),
    ("actions_worker", notify::NOTIFY),
    ("actions_janitor", notify::NOTIFY),
    ("actions_janitor", notify::NOTIFY_WITH_COMMIT),
    ("actions_worker", processes::BEAT),
    ("actions_worker", processes::LEAVE),
    ("actions_janitor", processes::BEAT),
    ("actions_janitor", processes::LEAVE),
    ("actions_janitor", processes::FORGET_SILENT),
    ("actions_worker", secrets::UNRECORDED),
    ("actions_worker", secrets::RECORD),
    ("actions_worker", secrets::SEEN),
    ("actions_worker", secrets::VERSIONS),
    ("actions_admin", control::CREATE),
    ("actions_admin", control::UPDATE),
    ("actions_admin", control::SET_ENABLED),
    ("actions_admin", control::REENABLE),
    ("actions_admin", control::DELETE),
    ("actions_admin", control::KILL),
    ("actions_admin", control::SWAP),
    ("actions_admin", projects::DELETE),
    ("actions_ops", projects::ERASURES),
    ("actions_admin", control::ROTATE_SECRET),
    ("actions_admin", control::FINISH_ROTATION),
    ("actions_admin", control::SHOW),
    ("actions_admin", control::LIST),
    ("actions_admin", control::RECORD_SECRET),
    ("actions_admin", control::NOTE_REVEALED),
    ("actions_admin", projects::LIST),
    ("actions_ops", projects::LIST),
    ("actions_admin", projects::SHOW),
    ("actions_ops", projects::SHOW),
    ("actions_admin", projects::MEMBERS),
    ("actions_admin", projects::UPSERT),
    ("actions_admin", projects::SET_ROLES),
    ("actions_admin", projects::SET_MEMBERS),
    ("actions_admin", audit::LIST),
    ("actions_ops", audit::LIST),
    ("actions_admin", control::SEND_TEST),
    ("actions_admin", control::OUTCOME),
    ("actions_janitor", maintenance::FORGET_OLD),
    ("actions_janitor", maintenance::ERASE_NEXT),
    ("actions_janitor", leader::UNWRITTEN),
    ("actions_janitor", leader::WRITE_MAILS),
    ("actions_core", migrate::LOCK),
    ("actions_core", migrate::ENCODING),
    ("actions_core", health::SERVER),
    ("actions_core", health::ECHO),
    ("actions_core", health::NOTIFICATIONS),
    ("actions_core", rights::ROLES),
    ("actions_core", rights::STOPS),
    ("actions_core", rights::LACKING),
    ("actions_core", login_settings::SETTINGS),
    ("actions_ops", health::PROCESSES),
    ("actions_ops", health::QUEUE),
    ("actions_admin", health::ACTIONS),
    ("actions_ops", health::FLEET),
    ("actions_ops", control::INVOCATIONS),
    ("actions_ops", control::OF_EVENT),
    ("actions_ops", control::INVOCATION),
    ("actions_ops", control::MEASURED),
    ("actions_ops", control::FINISHED),
    ("actions_janitor", leader::TAKE_LEAD),
    ("actions_janitor", outbox::TAKE_MAILS),
    ("actions_janitor", outbox::HOLD),
    ("actions_janitor", outbox::MAIL_SENT),
    ("actions_janitor", outbox::MAIL_FAILED),
    ("actions_janitor", leader::GIVE_UP_LEAD),
    ("actions_janitor", leader::END_OVERDUE),
    ("actions_janitor", gauges::QUEUE),
    ("actions_janitor", gauges::ENDED_BY_OTHERS),
    ("actions_janitor", maintenance::MAINTAIN),
    ("actions_janitor", maintenance::FORGET_EVENT_KEYS),
    ("actions_janitor", maintenance::LEFT_BEHIND),
    ("actions_janitor", maintenance::END_LEFT_BEHIND),
    ("actions_janitor", maintenance::DAYS_TO_MAKE),
    ("actions_janitor", maintenance::MAKE_PARTITION),
    ("actions_janitor", maintenance::SWEEP_DEFAULT),
    ("actions_janitor", maintenance::COUNT_NEXT),
    ("actions_janitor", maintenance::DROP_PARTITIONS),
    ("actions_janitor", leader::PUBLISH_SETTINGS),
    ("actions_janitor", leader::RECENT_SECONDS),
    ("actions_janitor", leader::SWITCHES),
    ("actions_janitor", leader::HELD),
    ("actions_janitor", leader::CUSTOMERS),
    ("actions_janitor", leader::HOLD_KILLS),
    ("actions_janitor", leader::FREE_KILLS),
    ("actions_janitor", leader::STREAKS),
    ("actions_janitor", leader::BOUNDS),
    ("actions_janitor", leader::KILL),
    ("actions_admin", apply::DESCRIBED),
    ("actions_admin", apply::CREATE),
    ("actions_admin", candidates::STAGE),
    ("actions_admin", candidates::PROMOTE),
    ("actions_admin", candidates::WITHDRAW),
    ("actions_admin", candidates::OF),
    ("actions_admin", candidates::VERSION),
    ("actions_admin", candidates::BREAK_GLASS),
    ("actions_admin", candidates::SET_BREAK_GLASS),
    ("actions_console", candidates::STAGE),
    ("actions_console", candidates::PROMOTE),
    ("actions_console", candidates::WITHDRAW),
    ("actions_console", candidates::OF),
    ("actions_console", candidates::DIFFERENCES),
    ("actions_console", candidates::RESULTS),
    ("actions_console", candidates::VERSION),
    ("actions_console", candidates::MET),
    ("actions_console", candidates::BREAK_GLASS),
    ("actions_console", candidates::SET_BREAK_GLASS),
    ("actions_console", candidates::FORGET_EVENTS),
    ("actions_janitor", trying::CANARIES),
    ("actions_janitor", trying::WITHDRAW_CANARY),
    ("actions_janitor", trying::PROBE),
    ("actions_janitor", trying::WARN),
    ("actions_janitor", trying::FORGET_TRIALS),
    ("actions_janitor", trying::ALARMING),
    ("actions_janitor", trying::LOOKED_UP_TO),
    ("actions_janitor", trying::FLEET_HEALTH),
    ("actions_worker", trials::KEEP_RESULTS),
    ("actions_worker", trials::KEEP_EVENTS),
    ("actions_worker", trials::KEEP_LAST_KNOWN),
    ("actions_worker", trials::LAST_KNOWN),
    ("actions_admin", trials::RECORDED),
    ("actions_console", trials::RECORDED),
    ("actions_console", console::SIGN_IN),
    ("actions_console", console::SESSION),
    ("actions_console", console::SIGN_OUT),
    ("actions_console", console::FORGET_ENDED),
    ("actions_console", console::USE_LINK),
    ("actions_console", console::ROLE),
    ("actions_console", console::PROJECTS),
    ("actions_console", console::FLEET),
    ("actions_console", console::TRAFFIC),
    ("actions_console", console::FAILING_MAILS),
    ("actions_console", console::LISTED),
    ("actions_console", console::ATTENTION),
    ("actions_console", console::WARNED),
    ("actions_console", console::HEALTH),
    ("actions_console", console::VERSIONS),
    ("actions_console", console::AUDIT),
    ("actions_console", console::SEARCH),
    ("actions_console", control::CREATE),
    ("actions_console", control::UPDATE),
    ("actions_console", control::SET_ENABLED),
    ("actions_console", control::REENABLE),
    ("actions_console", control::DELETE),
    ("actions_console", control::ROTATE_SECRET),
    ("actions_console", control::FINISH_ROTATION),
    ("actions_console", control::SHOW),
    ("actions_console", control::LIST),
    ("actions_console", control::RECORD_SECRET),
    ("actions_console", control::NOTE_REVEALED),
    ("actions_console", control::SEND_TEST),
    ("actions_console", control::OF_EVENT),
    ("actions_console", control::INVOCATION),
    ("actions_console", projects::SHOW),
    ("actions_console", projects::MEMBERS),
    ("actions_console", projects::UPSERT),
];

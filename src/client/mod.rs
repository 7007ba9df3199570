//! For auth-core: ask the customer's action about an auth event, and wait for the outcome.
//!
//! Concurrent calls of [`Client::invoke`] share statements: one is sent at once when none is
//! in flight, and what arrives meanwhile goes together in the next. All of them share one
//! LISTEN connection. The client never decides by itself: every outcome comes from the
//! database, where an invocation has exactly one.
//!
//! ```no_run
//! use authio_actions::client::{Client, Options};
//! use authio_actions::domain::{Decision, Trigger};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&Options::new("postgres://auth_core@localhost/authio")).await?;
//! let event = serde_json::json!({"user": {"id": "user_1", "email": "alice@acme.com"}});
//! let answer = client.invoke("proj_acme_prod", Trigger::PostAuthenticate, &event).await?;
//! match answer.outcome.decision {
//!     Decision::Allow => { /* create the session */ }
//!     Decision::Deny => { /* answer 403 with answer.outcome.code */ }
//! }
//! # Ok(())
//! # }
//! ```

mod abandon;
mod enqueue;
mod reply_to;
mod spread;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::{self, ConfigError, Hidden};
use crate::domain::{Outcome, TraceParent, Trigger};
use crate::store::auth_core::{Request, State};
use crate::store::listen::Listener;
use crate::store::{Database, StoreError};

use self::reply_to::ReplyTo;
pub use self::spread::Spread;
use self::waiting::Waiting;

/// How long beyond an invocation's deadline the database may take to say its final outcome.
const GRACE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// PostgreSQL URL of a login with the role `actions_core`; may go through a pooler.
    pub url: Hidden,
    /// A direct connection for LISTEN, where `url` goes through a pooler.
    pub listen_url: Option<Hidden>,
    /// Connections beside the one that listens; 4 serve thousands of waiters.
    pub max_connections: usize,
    /// Seconds after which a connection is opened anew, give or take a tenth; 0 for no limit.
    pub max_connection_age_s: u64,
    /// `false` for poolers in transaction mode that know no prepared statements.
    pub prepared_statements: bool,
}

impl Options {
    /// Options for one direct URL.
    pub fn new(url: &str) -> Self {
        Self { url: Hidden::from(url), listen_url: None, max_connections: 4, max_connection_age_s: 1800, prepared_statements: true }
    }
}

/// Why there is no outcome. What auth-core does then is its own policy: nothing was decided
/// by the customer or by a fail mode.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options are wrong.
    #[error(transparent)]
    Options(#[from] ConfigError),
    /// The event cannot be written as JSON.
    #[error("the event is no JSON: {0}")]
    Event(#[source] serde_json::Error),
    /// The database refused the request, or did not answer in time.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The route of [`Spread`] leads nowhere.
    #[error("project {project:?} is routed to the database {name:?}; known are: {known}")]
    Route {
        /// The project.
        project: String,
        /// What the route named.
        name: String,
        /// The names given to [`Spread::new`].
        known: String,
    },
}

/// The final outcome of one auth event.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `inv_…`; `None` when the project has no action for the trigger.
    pub invocation_id: Option<String>,
    /// `evt_…`
    pub event_id: String,
    /// `action_…`; `None` when the project has no action for the trigger.
    pub action_id: Option<String>,
    /// What auth-core must now do.
    pub outcome: Outcome,
}

/// What auth-core may know of an event beside the event itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Details<'a> {
    /// As [`Client::invoke_with_id`] takes it; without one the event gets one.
    pub event_id: Option<&'a str>,
    /// The W3C `traceparent` of the sign-in: the endpoint gets one, and the fleet's spans belong to
    /// its trace. One that is not valid is passed over.
    pub trace_parent: Option<&'a str>,
}

/// A connection to the fleet, to be shared by everything in a process.
#[derive(Clone)]
pub struct Client {
    waiting: Arc<Waiting>,
    requests: mpsc::UnboundedSender<enqueue::Ask>,
    leaving: mpsc::UnboundedSender<abandon::Leave>,
    _tasks: Arc<Tasks>,
}

/// The client's loops end with its last clone.
struct Tasks([tokio::task::AbortHandle; 4]);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Client {
    /// Connects and listens.
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        let (database, reply_to) = prepare(options)?;
        let listener = Listener::connect(&database, reply_to.channel()).await?;
        Ok(Self::start(database, reply_to, listener))
    }

    /// Connects in the background, within a Tokio runtime: for a program that shall start
    /// also while the database is away. An event fails until the database is there.
    pub fn open(options: &Options) -> Result<Self, ClientError> {
        let (database, reply_to) = prepare(options)?;
        let listener = Listener::new(&database, reply_to.channel());
        Ok(Self::start(database, reply_to, listener))
    }

    fn start(database: Database, reply_to: ReplyTo, listener: Listener) -> Self {
        let waiting = Arc::new(Waiting::new(reply_to));
        let (requests, asked) = mpsc::unbounded_channel();
        let hearing = tokio::spawn(waiting::hear(listener, Arc::clone(&waiting)));
        let asking = tokio::spawn(waiting::fetch(database.clone(), Arc::clone(&waiting)));
        let enqueueing = tokio::spawn(enqueue::run(database.clone(), asked, Arc::clone(&waiting)));
        let (leaving, left) = mpsc::unbounded_channel();
        let ending = tokio::spawn(abandon::run(database, left));
        let tasks = Arc::new(Tasks([&hearing, &asking, &enqueueing, &ending].map(tokio::task::JoinHandle::abort_handle)));
        Self { waiting, requests, leaving, _tasks: tasks }
    }

    /// Reports an auth event and returns its one final outcome: the action's, or at the
    /// deadline that of its fail mode.
    ///
    /// `event` serialises as a JSON object with any of `user`, `session`, `token`, `request`,
    /// `metadata`. Waits at most the action's timeout, the fleet's allowance and two seconds
    /// more while the database is away; before that, for several seconds until an event that
    /// cannot be reported fails. Dropping the future stops waiting; the event is
    /// still delivered.
    pub async fn invoke(&self, project: &str, trigger: Trigger, event: &impl Serialize) -> Result<Answer, ClientError> {
        self.invoke_with(&Details::default(), project, trigger, event).await
    }

    /// As [`Client::invoke`], for an event that has an id already: reported again within ten
    /// minutes, by this process or another, it is the same invocation and is sent once.
    ///
    /// `event_id` is `evt_` and the 26 upper-case Crockford base-32 characters of a UUIDv7, as
    /// [`crate::domain::new_event_id`] makes them.
    pub async fn invoke_with_id(
        &self,
        event_id: &str,
        project: &str,
        trigger: Trigger,
        event: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        self.invoke_with(&Details { event_id: Some(event_id), ..Details::default() }, project, trigger, event).await
    }

    /// As [`Client::invoke`], with what auth-core knows beside the event itself.
    pub async fn invoke_with(
        &self,
        details: &Details<'_>,
        project: &str,
        trigger: Trigger,
        event: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        let event = serde_json::value::to_raw_value(event).map_err(ClientError::Event)?;
        let Details { event_id, trace_parent } = details;
        let request = Request {
            project_id: project.to_owned(),
            trigger: trigger.as_str(),
            event,
            event_id: event_id.map(str::to_owned),
            trace_parent: trace_parent.filter(|text| TraceParent::parse(text).is_some()).map(str::to_owned),
        };
        let (state, result) = self.enqueue(request).await?;
        let (Some(id), None) = (&state.invocation_id, &state.outcome) else {
            return answer(state);
        };
        let _forget = self.waiting.forget_on_drop(id);
        let deadline = Instant::now() + Duration::from_millis(state.wait_ms.unsigned_abs().into());
        if let Ok(Ok(outcome)) = tokio::time::timeout_at(deadline, result).await {
            return Ok(Answer { invocation_id: Some(id.clone()), event_id: state.event_id, action_id: state.action_id, outcome });
        }
        answer(self.abandon(id, deadline + GRACE).await?)
    }

    async fn enqueue(&self, request: Request) -> Result<enqueue::Queued, StoreError> {
        let (reply, queued) = oneshot::channel();
        self.requests.send(enqueue::Ask { request, reply }).map_err(|_| gone())?;
        queued.await.map_err(|_| gone())?
    }

    /// Ends the waiting; a database that is away is asked again until `last`.
    async fn abandon(&self, id: &str, last: Instant) -> Result<State, StoreError> {
        loop {
            let (reply, ended) = oneshot::channel();
            self.leaving.send(abandon::Leave { id: id.to_owned(), reply }).map_err(|_| gone())?;
            match tokio::time::timeout_at(last, ended).await {
                Ok(Ok(Err(error))) if error.is_passing() && Instant::now() < last => tokio::time::sleep(PAUSE).await,
                Ok(result) => return result.map_err(|_| gone())?,
                Err(_) => return Err(StoreError::Unreachable("no final outcome in time".to_owned())),
            }
        }
    }
}

fn gone() -> StoreError {
    StoreError::Unreachable("the client's loop is gone".to_owned())
}

fn prepare(options: &Options) -> Result<(Database, ReplyTo), ConfigError> {
    let config = config::Database {
        url: Some(options.url.clone()),
        url_file: None,
        listen_url: options.listen_url.clone(),
        listen_url_file: None,
        max_connections: options.max_connections.max(2),
        max_connection_age_s: options.max_connection_age_s,
        prepared_statements: options.prepared_statements,
    };
    Ok((Database::new(&config, "auth-core actions client")?, ReplyTo::random()))
}

fn answer(state: State) -> Result<Answer, ClientError> {
    let undecided = || StoreError::Unreachable("the final outcome is missing".to_owned());
    let outcome = state.outcome.ok_or_else(undecided)?;
    Ok(Answer { invocation_id: state.invocation_id, event_id: state.event_id, action_id: state.action_id, outcome })
}

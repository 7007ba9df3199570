//! Projects spread over several databases: which one an event goes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Answer, Client, ClientError, Options};
use crate::domain::Trigger;

type Route = dyn Fn(&str) -> String + Send + Sync;

/// One client for several fleets, each with its own database.
///
/// Nothing is shared between the databases: one that is away, or slow, holds up its own
/// projects only, and one that is away at the start is served as soon as it is there.
///
/// ```no_run
/// use authio_actions::client::{Options, Spread};
/// use authio_actions::domain::Trigger;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let databases = [
///     ("eu", Options::new("postgres://auth_core@eu.db.example/authio")),
///     ("us", Options::new("postgres://auth_core@us.db.example/authio")),
/// ];
/// // auth-core knows where each of its projects lives.
/// let client = Spread::new(databases, |project| if project.starts_with("us_") { "us" } else { "eu" }.to_owned())?;
/// let answer = client.invoke("us_acme", Trigger::PreRegister, &serde_json::json!({})).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Spread {
    clients: Arc<BTreeMap<String, Client>>,
    route: Arc<Route>,
}

impl Spread {
    /// Connects in the background, within a Tokio runtime. `route` names the database of a
    /// project; it is asked for each event, so it must be quick.
    ///
    /// # Errors
    /// Wrong options of any of the databases.
    pub fn new<N: Into<String>>(
        databases: impl IntoIterator<Item = (N, Options)>,
        route: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let open = |(name, options): (N, Options)| Ok((name.into(), Client::open(&options)?));
        let clients = databases.into_iter().map(open).collect::<Result<_, ClientError>>()?;
        Ok(Self { clients: Arc::new(clients), route: Arc::new(route) })
    }

    /// [`Client::invoke`] on the project's own database.
    ///
    /// # Errors
    /// Those of [`Client::invoke`], and [`ClientError::Route`] where `route` names no database.
    pub async fn invoke(&self, project: &str, trigger: Trigger, event: &impl Serialize) -> Result<Answer, ClientError> {
        let name = (self.route)(project);
        let Some(client) = self.clients.get(&name) else {
            let known = self.clients.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(ClientError::Route { project: project.to_owned(), name, known });
        };
        client.invoke(project, trigger, event).await
    }
}

//! `…/live`: a list of invocations as server-sent events, each the table anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::Instant;

use super::action::known;
use super::invocations::List;
use crate::console::error::PageError;
use crate::console::ways_in::Person;
use crate::console::{Console, Fields};

/// How often the database is asked for what is new.
const EVERY: Duration = Duration::from_secs(1);
/// Then the browser asks again by itself, and shows by its cookie who it is.
const AT_MOST: Duration = Duration::from_secs(600);

/// Whose list it is.
#[derive(Clone)]
enum Of {
    Action(String),
    Project(String),
    All,
}

/// `GET /actions/{id}/live`
pub async fn of_action(
    console: State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    fields: Query<Fields>,
) -> Result<Response, PageError> {
    stream(console, person, Of::Action(id), fields).await
}

/// `GET /projects/{id}/live`
pub async fn of_project(
    console: State<Arc<Console>>,
    person: Person,
    Path(id): Path<String>,
    fields: Query<Fields>,
) -> Result<Response, PageError> {
    stream(console, person, Of::Project(id), fields).await
}

/// `GET /invocations/live`
pub async fn of_all(console: State<Arc<Console>>, person: Person, fields: Query<Fields>) -> Result<Response, PageError> {
    stream(console, person, Of::All, fields).await
}

struct Watch {
    console: Arc<Console>,
    person: Person,
    of: Of,
    fields: Fields,
    next: Instant,
    until: Instant,
    shown: String,
}

async fn stream(State(console): State<Arc<Console>>, person: Person, of: Of, Query(fields): Query<Fields>) -> Result<Response, PageError> {
    let place = Arc::clone(&console.watchers).try_acquire_owned().map_err(|_| PageError::Busy)?;
    let now = Instant::now();
    let watch = Watch { console, person, of, fields, next: now, until: now + AT_MOST, shown: String::new() };
    // What may not be seen, or cannot be read, is told before anything else.
    watch.look().await?;
    let events = stream::unfold((watch, place), |(mut watch, place)| async move {
        let event = watch.changed().await?;
        Some((Ok::<_, Infallible>(event), (watch, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

impl Watch {
    /// The next table that differs. None where the time is over, or the person is.
    async fn changed(&mut self) -> Option<Event> {
        loop {
            if self.next > self.until {
                return None;
            }
            tokio::time::sleep_until(self.next).await;
            self.next = Instant::now() + EVERY;
            if !self.person.is_still_here(&self.console).await {
                return None;
            }
            let now = self.look().await.ok()?;
            if now != self.shown {
                self.shown.clone_from(&now);
                return Some(Event::default().data(now));
            }
        }
    }

    async fn look(&self) -> Result<String, PageError> {
        let Self { console, person, fields, .. } = self;
        let list = match &self.of {
            Of::Action(id) => {
                known(console, person, id).await?;
                List::read(String::new(), Some(id), None, fields)?
            }
            Of::Project(id) => {
                person.right(console, id).await?;
                List::read(String::new(), None, Some(id), fields)?
            }
            Of::All if person.is_operator() => List::read(String::new(), None, None, fields)?,
            Of::All => return Err(PageError::NotFound),
        };
        Ok(list.table(console).await?.into_string())
    }
}

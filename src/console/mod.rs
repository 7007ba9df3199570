//! The console: pages for operators and for a project's own people. Every page is a function from rows
//! to HTML, works without JavaScript, and is shown to nobody who is not signed in.
//!
//! Called by `bin/console.rs`. It has no SQL of its own, and calls an endpoint only where somebody tries one.

mod csv;
mod error;
mod headers;
pub mod pages;
mod sent;
pub mod ways_in;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::ways_in::LocalLink;
use self::ways_in::oidc::{self, Provider};
use crate::config::{Config, ConfigError, ConsoleLogin};
use crate::egress::Egress;
use crate::sign::RootKeys;
use crate::store::{Database, StoreError, schema};
use crate::telemetry::{Metrics, service};

/// The fields of a form, by name.
pub type Fields = BTreeMap<String, String>;

/// A request whose head, or whose body, takes longer is given up.
/// Time between two looks whether the database answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const HALF_SENT: Duration = Duration::from_secs(30);

/// Live lists at once.
const WATCHERS: usize = 200;

/// What every page needs.
pub struct Console {
    config: Config,
    database: Database,
    /// Without them no portal link is read and no secret is shown.
    keys: Option<RootKeys>,
    local: Option<LocalLink>,
    provider: Option<Provider>,
    /// What `/try` dials with, under the worker's own rules.
    egress: Egress,
    metrics: Arc<Metrics>,
    /// Places of those who watch a live list; each asks the database once a second.
    watchers: Arc<Semaphore>,
}

/// Why the console could not run.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database refused, or could not be reached when starting.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Console {
    /// Checks configuration and schema. Returns the link that lets its holder in once, where
    /// `console.login` is `local`.
    pub async fn prepare(config: Config, metrics: Arc<Metrics>) -> Result<(Self, Option<String>), ConsoleError> {
        let database = Database::new(&config.database, "actions-console")?;
        let counted = Arc::clone(&metrics);
        database.on_replaced(move |reason| counted.replaced(reason));
        let keys = match (&config.secrets.root_keys, &config.secrets.root_keys_file) {
            (None, None) => None,
            _ => Some(config.root_keys()?),
        };
        schema::check(&database).await?;
        metrics.database_up.set(1);
        let (local, link) = match config.console.login {
            Some(ConsoleLogin::Local) => {
                let (local, token) = LocalLink::new();
                (Some(local), Some(format!("{}/enter/{token}", config.console.base())))
            }
            None => (None, None),
        };
        let egress = Egress::new(&config.egress)?;
        let provider = Provider::prepare(&config)?;
        Ok((Self { config, database, keys, local, provider, egress, metrics, watchers: Arc::new(Semaphore::new(WATCHERS)) }, link))
    }

    /// Serves until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ConsoleError> {
        let listen = self.config.console.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| ConfigError {
            key: "console.listen".to_owned(),
            given: format!("{listen}: {error}"),
            accepted: "a free address such as 127.0.0.1:8600".to_owned(),
        })?;
        tracing::info!(address = %listen, "serving the console");
        service::ready();
        let this = Arc::new(self);
        let watching = tokio::spawn(watch_database(Arc::clone(&this))).abort_handle();
        let routes = routes(this);
        tokio::pin!(stop);
        loop {
            let stream = tokio::select! {
                () = &mut stop => {
                    service::stopping();
                    watching.abort();
                    return Ok(());
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "console.listen cannot accept");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                },
            };
            let service = TowerToHyperService::new(routes.clone());
            tokio::spawn(async move {
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HALF_SENT);
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a browser left");
                }
            });
        }
    }

    /// Whether a cookie goes by TLS alone: everywhere but on this machine.
    fn is_secure(&self) -> bool {
        let base = url::Url::parse(&self.config.console.base()).ok();
        let is_loopback = base.as_ref().is_some_and(|base| match base.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        });
        !is_loopback || base.is_some_and(|base| base.scheme() == "https")
    }
}

/// Says whether the database answers, also while nobody opens a page.
async fn watch_database(console: Arc<Console>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        console.metrics.liveness.alive("watch_database");
        let is_there = schema::check(&console.database).await;
        if let Err(error) = &is_there {
            tracing::warn!(%error, "the database does not answer as it must");
        }
        console.metrics.database_up.set(i64::from(is_there.is_ok()));
    }
}

fn routes(console: Arc<Console>) -> Router {
    let metrics = Arc::clone(&console.metrics);
    let ancestors = console.config.console.frame_ancestors.clone();
    Router::new()
        .route("/", get(pages::overview::show))
        .route("/projects", get(pages::projects::list))
        .route("/projects/{id}", get(pages::projects::show))
        .route("/projects/{id}/live", get(pages::live::of_project))
        .route("/projects/{id}/{change}", post(pages::project_changes::make))
        .route("/projects/{id}/actions/new", get(pages::action_form::new).post(pages::action_form::create))
        .route("/actions/{id}", get(pages::action::show))
        .route("/actions/{id}/live", get(pages::live::of_action))
        .route("/actions/{id}/candidate", get(pages::candidate::new).post(pages::candidate::stage))
        .route("/actions/{id}/replay", get(pages::replay::ask).post(pages::replay::run))
        .route("/actions/{id}/condition", post(pages::replay::condition))
        .route("/actions/{id}/edit", get(pages::action_form::edit).post(pages::action_form::save))
        .route("/actions/{id}/{change}", get(pages::action_changes::ask).post(pages::action_changes::make))
        .route("/invocations", get(pages::invocations::show))
        .route("/invocations/live", get(pages::live::of_all))
        .route("/invocations/{id}", get(pages::invocation::show))
        .route("/audit", get(pages::audit::show))
        .route("/endpoint-url", get(pages::endpoint_url::judge))
        .route("/try", get(pages::trial::show).post(pages::trial::run))
        .route("/search", get(pages::search::show))
        // A preview of a link asks for its head, and must not use it up.
        .route("/enter/{token}", get(ways_in::enter).head(async || axum::http::StatusCode::METHOD_NOT_ALLOWED))
        .route("/sign-in", get(oidc::leave_for_provider))
        .route("/sign-in/back", get(oidc::come_back))
        .route("/sign-out", post(ways_in::leave))
        .route("/healthz", get(async || "ok\n"))
        .route("/assets/{name}", get(pages::assets::serve))
        .fallback(async || error::PageError::NotFound)
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(move |request, next| headers::add(ancestors.clone(), request, next)))
        .layer(middleware::from_fn(move |request, next| measured(Arc::clone(&metrics), request, next)))
        .with_state(console)
}

/// Counts the answer, and says how long it took.
async fn measured(metrics: Arc<Metrics>, request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let mut response = next.run(request).await;
    metrics.answered(response.status().as_u16());
    let took = format!("page;dur={:.1}", asked.elapsed().as_secs_f64() * 1000.0);
    if let Ok(took) = HeaderValue::from_str(&took) {
        response.headers_mut().insert("server-timing", took);
    }
    response
}

/// Gives up a request that does not come to its end.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(HALF_SENT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => axum::http::StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

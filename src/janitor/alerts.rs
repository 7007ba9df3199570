//! Tells the operator's own webhook, which understands what Slack's does: kills, withdrawn candidates, held
//! kills, a lost lead, a fleet that is not well. At most once a minute and subject, tried again, and in nobody's
//! way: it has a loop of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::leadership::Standing;
use crate::config::Alerts;
use crate::store::{Database, StoreError, trying};
use crate::telemetry::{AlertLabels, Metrics};

/// How often the log and the fleet are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A fleet that is not well for so long is told of.
const NOT_WELL: Duration = Duration::from_secs(30);
/// One subject is told of no more often.
const A_MINUTE: Duration = Duration::from_secs(60);
/// The webhook's time for one alert.
const PATIENCE: Duration = Duration::from_secs(10);
/// What could not be told for so long is let go.
const LONGEST: Duration = Duration::from_secs(3600);
/// So many wait at most.
const WAITING: usize = 1_000;

/// Something to be told.
struct Alert {
    kind: &'static str,
    /// What it is about; with the kind it is the subject.
    about: String,
    text: String,
    since: Instant,
    next: Instant,
    attempts: u32,
}

/// What is told, and what was.
struct Bell {
    url: url::Url,
    client: reqwest::Client,
    waiting: Vec<Alert>,
    told: HashMap<(&'static str, String), Instant>,
}

/// What was seen of the fleet.
#[derive(Default)]
struct Seen {
    /// The last event of the log that was looked at; none until this janitor leads.
    last: Option<i64>,
    not_well_since: Option<Instant>,
    was_held: bool,
    led: bool,
}

/// Watches for as long as the janitor lives, and tells while it leads.
pub async fn run(database: Database, alerts: Alerts, standing: watch::Receiver<Standing>, metrics: Arc<Metrics>) {
    let Some(url) = alerts.url() else { return std::future::pending().await };
    // Where the operator's own network needs a proxy, the environment says so; redirects lead elsewhere.
    let client =
        reqwest::Client::builder().tls_built_in_native_certs(false).timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let Ok(client) = client else { return std::future::pending().await };
    let mut bell = Bell { url, client, waiting: Vec::new(), told: HashMap::new() };
    let mut seen = Seen::default();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        metrics.liveness.alive("alerts");
        let leads = standing.borrow().epoch().is_some();
        if let Err(error) = seen.look(&database, leads, &mut bell).await {
            tracing::warn!(%error, "cannot see what to alert of");
        }
        bell.ring(&metrics).await;
    }
}

impl Seen {
    async fn look(&mut self, database: &Database, leads: bool, bell: &mut Bell) -> Result<(), StoreError> {
        if self.led && !leads {
            bell.add(
                "lead_lost",
                String::new(),
                "A janitor lost the lead: another one leads, or none could reach the database.".to_owned(),
            );
        }
        self.led = leads;
        if !leads {
            (self.last, self.not_well_since, self.was_held) = (None, None, false);
            return Ok(());
        }
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(trying::looked_up_to(database).await?),
        };
        for event in trying::alarming(database, last).await? {
            self.last = Some(event.id);
            let action = event.action_id.unwrap_or_default();
            let (kind, what) = match event.event.as_str() {
                "action.killed" => ("kill", "was killed"),
                _ => ("candidate_withdrawn", "lost its candidate"),
            };
            let by = if event.actor.is_empty() { String::new() } else { format!(" (by {})", event.actor) };
            bell.add(kind, action.clone(), format!("Action {action} of project {} {what}{by}: {}", event.project_id, event.reason));
        }
        let (status, why, is_held) = trying::fleet_health(database).await?;
        if is_held && !self.was_held {
            bell.add("kills_held", String::new(), format!("Kills are held, because calls to unrelated customers fail: {why}"));
        }
        self.was_held = is_held;
        if status == "well" {
            self.not_well_since = None;
        } else if self.not_well_since.get_or_insert_with(Instant::now).elapsed() >= NOT_WELL {
            bell.add("fleet", String::new(), format!("The fleet is {status}: {why}"));
        }
        Ok(())
    }
}

impl Bell {
    fn add(&mut self, kind: &'static str, about: String, text: String) {
        let subject = (kind, about);
        let now = Instant::now();
        let was_told = self.told.get(&subject).is_some_and(|at| now - *at < A_MINUTE);
        let waits = self.waiting.iter().any(|alert| alert.kind == kind && alert.about == subject.1);
        if was_told || waits || self.waiting.len() >= WAITING {
            return;
        }
        self.waiting.push(Alert { kind, about: subject.1, text, since: now, next: now, attempts: 0 });
    }

    /// Sends what is due. One webhook that hangs holds up this loop for its patience, and nothing else.
    async fn ring(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        self.told.retain(|_, at| now - *at < A_MINUTE);
        for mut alert in std::mem::take(&mut self.waiting) {
            if alert.next > Instant::now() {
                self.waiting.push(alert);
                continue;
            }
            metrics.liveness.alive("alerts");
            let result = match self.send(&alert.text).await {
                Ok(()) => "sent",
                Err(why) if alert.since.elapsed() < LONGEST => {
                    tracing::warn!(kind = alert.kind, why, "an alert could not be sent; trying again");
                    alert.attempts += 1;
                    alert.next = Instant::now() + EVERY * 2_u32.pow(alert.attempts.min(6));
                    "failed"
                }
                Err(why) => {
                    tracing::error!(kind = alert.kind, why, "an alert was given up");
                    "given_up"
                }
            };
            metrics.alerts.get_or_create(&AlertLabels { kind: alert.kind, result }).inc();
            match result {
                "sent" => drop(self.told.insert((alert.kind, alert.about), Instant::now())),
                "failed" => self.waiting.push(alert),
                _ => {}
            }
        }
    }

    /// The webhook's URL is a secret, so no error quotes it.
    async fn send(&self, text: &str) -> Result<(), String> {
        let body = serde_json::json!({ "text": text });
        let request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("the webhook answered HTTP {}", answer.status().as_u16())) }
    }
}

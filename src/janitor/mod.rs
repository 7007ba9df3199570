//! The janitor: one leads at a time and, each tick, ends what is past its deadline, trips
//! kill-switches and keeps the partitions.
//!
//! Called by `bin/janitor.rs`. Any number may run. The lead is a lease with an epoch in the
//! database: losing the leader costs seconds, and what a paused one still writes when it
//! wakes up finds its epoch over. It never judges an answer and never calls an endpoint.

mod alerts;
mod canary;
mod delivery;
mod erasure;
mod gauges;
mod kill_switch;
mod leadership;
mod mail;
mod maintenance;
mod outage;
mod wakeup;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, ConfigError};
use crate::smtp::Mailer;
use crate::store::processes::Process;
use crate::store::{Database, StoreError, schema};
use crate::store::{leader, maintenance::do_due, trying};
use crate::supervise::Loops;
use crate::telemetry::{Metrics, service};

use self::gauges::Gauges;
use self::kill_switch::KillSwitch;
use self::leadership::{Candidate, Standing};
use self::wakeup::Wakeup;

const BEAT: Duration = Duration::from_secs(5);
/// Partitions, daily counts and dead processes can wait this long.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// What has no hurry is done once in so many ticks.
const MAINTENANCE_TICKS: u32 = 5;
/// The lease outlives so many missed ticks.
const LEASE_TICKS: u32 = 3;
const SHORTEST_LEASE: Duration = Duration::from_secs(2);
/// A new leader looks back further, once: nobody may have led for a while, and the look at the whole queue leaves
/// out the last ten seconds.
const WITHOUT_LEADER: Duration = Duration::from_secs(15);

/// What was enqueued longer ago is past every deadline: the longest timeout of an action, the
/// fleet's allowance, and some seconds for commits that took their time.
///
/// What a reader's snapshot keeps vacuum from cleaning up gathers at the old end of the queue,
/// and walking over it costs more every second; so ticks look no further back.
fn horizon(config: &Config) -> Duration {
    Duration::from_secs(5) + Duration::from_millis(config.deadline.queue_allowance_ms.into()) + Duration::from_secs(3)
}

/// Why a janitor could not run.
#[derive(Debug, thiserror::Error)]
pub enum JanitorError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database refused, or could not be reached when starting.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A loop panicked. A process that goes on without it would only look healthy.
    #[error("the loop {0} ended; leaving, so that whoever watches this process starts it anew")]
    LoopEnded(&'static str),
}

/// A janitor that has checked its surroundings.
pub struct Janitor {
    config: Config,
    database: Database,
    metrics: Arc<Metrics>,
    process: Process,
    mailer: Option<Mailer>,
    mails: Arc<Wakeup>,
    maintenance: Arc<Wakeup>,
}

/// What a leader keeps in memory from tick to tick.
struct Lead {
    epoch: i64,
    /// SQL functions know the configuration of this leader.
    has_published: bool,
    /// Built from the history with the first tick that can.
    kill_switch: Option<KillSwitch>,
    looked_at: Instant,
    kept_house_at: Option<Instant>,
    maintained_at: Instant,
    is_fleet_blamed: bool,
    gauges: Gauges,
}

impl Janitor {
    /// Checks configuration and schema.
    pub async fn prepare(config: Config, process: Process, metrics: Arc<Metrics>) -> Result<Self, JanitorError> {
        let database = Database::new(&config.database, "actions-janitor")?;
        let counted = Arc::clone(&metrics);
        database.on_replaced(move |reason| counted.replaced(reason));
        let mailer = Mailer::new(&config.smtp)?;
        schema::check(&database).await?;
        if mailer.is_none() {
            tracing::warn!("smtp.url is not set: mails wait in the outbox");
        }
        Ok(Self { config, database, metrics, process, mailer, mails: Arc::default(), maintenance: Arc::default() })
    }

    /// Watches until `stop` resolves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), JanitorError> {
        let mut lead: Option<Lead> = None;
        let mut beside = Loops::default();
        let standing = self.start_loops(&mut beside);
        let mut ticks = tokio::time::interval(self.config.kill_switch.tick());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(BEAT);
        tracing::info!("watching");
        service::ready();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => {
                    service::stopping();
                    break;
                }
                name = beside.any_ended() => return Err(JanitorError::LoopEnded(name)),
                _ = ticks.tick() => {
                    self.metrics.liveness.alive("tick");
                    let began = Instant::now();
                    let standing = *standing.borrow();
                    self.tick(&mut lead, standing).await;
                    self.metrics.tick.observe(began.elapsed().as_secs_f64());
                }
                _ = beats.tick() => if let Err(error) = self.process.beat(&self.database, 0).await {
                    tracing::warn!(%error, "no heartbeat");
                },
            }
        }
        drop(beside); // what they held is due again within a minute
        if let Some(epoch) = standing.borrow().epoch() {
            leader::give_up_lead(&self.database, epoch, &self.process.id).await?;
        }
        self.process.leave(&self.database).await?;
        self.database.close();
        tracing::info!("left");
        Ok(())
    }

    /// What runs beside the ticks; where the lead stands is told by what is returned.
    fn start_loops(&mut self, beside: &mut Loops) -> watch::Receiver<Standing> {
        let (database, metrics) = (self.database.clone(), Arc::clone(&self.metrics));
        let tick = self.config.kill_switch.tick();
        let candidate = Candidate {
            database: database.clone(),
            janitor: self.process.id.clone(),
            lease: (tick * LEASE_TICKS).max(SHORTEST_LEASE),
            renew_every: tick,
            mails: Arc::clone(&self.mails),
            metrics: Arc::clone(&metrics),
        };
        let (sender, standing) = watch::channel(Standing::default());
        beside.start("leadership", leadership::keep(candidate, sender));
        let maintaining =
            maintenance::run(database.clone(), self.config.retention.clone(), Arc::clone(&self.maintenance), Arc::clone(&metrics));
        beside.start("maintenance", maintaining);
        beside.start("erasure", erasure::run(database.clone(), standing.clone(), Arc::clone(&metrics)));
        if self.config.alerts.webhook_url.is_some() {
            let alerting = alerts::run(database.clone(), self.config.alerts.clone(), standing.clone(), Arc::clone(&metrics));
            beside.start("alerts", alerting);
        }
        if let Some(mailer) = self.mailer.take() {
            beside.start("delivery", delivery::run(database, mailer, Arc::clone(&self.mails), metrics));
        }
        standing
    }

    /// One look at everything that has a hurry. A task that fails stops no other: each is tried
    /// again with the next tick.
    async fn tick(&self, lead: &mut Option<Lead>, standing: Standing) {
        let (Some(epoch), Some(now)) = (standing.epoch(), standing.now()) else {
            if lead.take().is_some() {
                tracing::warn!("another janitor leads now");
                self.metrics.led_no_more();
            }
            return;
        };
        if lead.as_ref().is_none_or(|held| held.epoch != epoch) {
            tracing::info!(epoch, "leading");
            *lead = Some(Lead::new(epoch));
        }
        let Some(lead) = lead else { return };
        if !lead.has_published {
            lead.has_published = told("publishing settings", leader::publish_settings(&self.database, epoch, &self.config).await).is_some();
        }
        told("ending what is overdue", self.end_overdue(lead).await);
        told("the kill-switch", self.kill_switch(lead, now).await);
        told("probes", self.probe(lead.epoch).await);
        told("canaries", canary::withdraw(&self.database, lead.epoch, &self.metrics).await);
        if lead.maintained_at.elapsed() > self.config.kill_switch.tick() * MAINTENANCE_TICKS {
            lead.maintained_at = Instant::now();
            told("rotations and checks", self.maintain(lead).await);
            told("mails of kills by hand", self.write_mails(lead.epoch).await);
            told("gauges", lead.gauges.look(&self.database, &self.metrics).await);
        }
        if lead.kept_house_at.is_none_or(|at| at.elapsed() > HOUSEKEEPING) {
            lead.kept_house_at = Some(Instant::now());
            self.maintenance.wake(epoch);
        }
    }

    async fn end_overdue(&self, lead: &mut Lead) -> Result<(), StoreError> {
        // Everything whose deadline passed since the last look was enqueued within this time.
        let began = Instant::now();
        let look_back = horizon(&self.config) + (began - lead.looked_at);
        let expired = leader::end_overdue(&self.database, lead.epoch, look_back).await?;
        lead.looked_at = began;
        if expired > 0 {
            tracing::warn!(invocations = expired, "ended past their deadline: is the fleet too small, or did a worker die?");
        }
        Ok(())
    }

    async fn kill_switch(&self, lead: &mut Lead, now: OffsetDateTime) -> Result<(), StoreError> {
        let kill_switch = match &mut lead.kill_switch {
            Some(kill_switch) => kill_switch,
            none => none.insert(KillSwitch::begin(&self.database, &self.config.kill_switch).await?),
        };
        kill_switch.tick(&self.database, lead.epoch, now, &self.config, &self.metrics).await
    }

    /// Test events to killed actions that may take themselves back.
    async fn probe(&self, epoch: i64) -> Result<(), StoreError> {
        let recovered = trying::probe(&self.database, epoch, self.config.kill_switch.probe_every_s).await?;
        if recovered > 0 {
            tracing::info!(actions = recovered, "five test events in a row ended ok: kills were taken back");
        }
        Ok(())
    }

    /// Whoever kills by hand leaves the words to this program.
    async fn write_mails(&self, epoch: i64) -> Result<(), StoreError> {
        for (ids, reason, figures) in leader::unwritten(&self.database).await? {
            let mail = mail::action_killed(&figures, &reason, self.config.dashboard.url.as_deref());
            leader::write_mails(&self.database, epoch, &ids, &mail).await?;
        }
        Ok(())
    }

    async fn maintain(&self, lead: &mut Lead) -> Result<(), StoreError> {
        let done = do_due(&self.database, lead.epoch).await?;
        if done.rotations > 0 {
            tracing::info!(done.rotations, "overlaps ended");
        }
        match (lead.is_fleet_blamed, done.is_fleet_blamed) {
            (false, true) => tracing::error!(
                "the test events of most actions fail, or the fleet has no time for them: the fault is ours, not the customers'; see actions.check_health"
            ),
            (true, false) => tracing::info!("test events no longer blame the fleet"),
            _ => {}
        }
        lead.is_fleet_blamed = done.is_fleet_blamed;
        self.metrics.checks_blame_fleet.set(i64::from(done.is_fleet_blamed));
        Ok(())
    }
}

impl Lead {
    fn new(epoch: i64) -> Self {
        let now = Instant::now();
        Self {
            epoch,
            has_published: false,
            kill_switch: None,
            looked_at: now.checked_sub(WITHOUT_LEADER).unwrap_or(now),
            kept_house_at: None,
            maintained_at: now,
            is_fleet_blamed: false,
            gauges: Gauges::default(),
        }
    }
}

/// What a task came to; its failure is logged.
fn told<T>(task: &'static str, result: Result<T, StoreError>) -> Option<T> {
    result.map_err(|error| tracing::warn!(%error, task, "a task failed; the next tick tries again")).ok()
}

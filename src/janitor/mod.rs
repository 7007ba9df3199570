//! The janitor: one leads at a time and, each tick, ends what is past its deadline, trips
//! kill-switches and keeps the partitions.
//!
//! Called by `bin/janitor.rs`. Any number may run. The lead is a lease with an epoch in the
//! database: losing the leader costs seconds, and what a paused one still writes when it
//! wakes up finds its epoch over. It never judges an answer and never calls an endpoint.

mod delivery;
mod kill_switch;
mod mail;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, ConfigError};
use crate::smtp::Mailer;
use crate::store::duties;
use crate::store::processes::{self, Process};
use crate::store::{Database, StoreError, schema};
use crate::telemetry::Metrics;

use self::delivery::Bell;
use self::kill_switch::KillSwitch;

const BEAT: Duration = Duration::from_secs(5);
/// Partitions, retention and dead processes can wait this long.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// The lease outlives so many missed ticks.
const LEASE_TICKS: u32 = 3;
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// Why a janitor could not run.
#[derive(Debug, thiserror::Error)]
pub enum JanitorError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database refused, or could not be reached when starting.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A janitor that has checked its surroundings.
pub struct Janitor {
    config: Config,
    database: Database,
    metrics: Arc<Metrics>,
    process: Process,
    mailer: Option<Mailer>,
    bell: Arc<Bell>,
}

/// What a leader keeps in memory from tick to tick.
struct Lead {
    epoch: i64,
    kill_switch: KillSwitch,
    kept_house_at: Instant,
}

impl Janitor {
    /// Checks configuration and schema.
    pub async fn prepare(config: Config, metrics: Arc<Metrics>) -> Result<Self, JanitorError> {
        let database = Database::new(&config.database, "actions-janitor")?;
        let mailer = Mailer::new(&config.smtp)?;
        schema::check(&database).await?;
        if mailer.is_none() {
            tracing::warn!("smtp.url is not set: mails wait in the outbox");
        }
        Ok(Self { config, database, metrics, process: Process::this("janitor"), mailer, bell: Arc::default() })
    }

    /// Watches until `stop` resolves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), JanitorError> {
        let mut lead: Option<Lead> = None;
        let delivering =
            self.mailer.take().map(|mailer| tokio::spawn(delivery::run(self.database.clone(), mailer, Arc::clone(&self.bell))));
        let mut ticks = tokio::time::interval(self.config.kill_switch.tick());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(BEAT);
        tracing::info!(janitor = self.process.id, "watching");
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticks.tick() => {
                    let ticked = self.tick(&mut lead).await;
                    let is_up = !matches!(&ticked, Err(error) if error.is_unreachable());
                    self.metrics.database_up.set(i64::from(is_up));
                    if let Err(error) = ticked {
                        tracing::warn!(%error, "a tick failed; the next one tries again");
                    }
                }
                _ = beats.tick() => if let Err(error) = self.process.beat(&self.database, 0).await {
                    tracing::warn!(%error, "no heartbeat");
                },
            }
        }
        if let Some(delivering) = delivering {
            delivering.abort(); // what it held is due again within a minute
        }
        if let Some(lead) = lead {
            duties::give_up_lead(&self.database, lead.epoch, &self.process.id).await?;
        }
        self.process.leave(&self.database).await?;
        self.database.close();
        tracing::info!("left");
        Ok(())
    }

    async fn tick(&self, lead: &mut Option<Lead>) -> Result<(), StoreError> {
        let lease = (self.config.kill_switch.tick() * LEASE_TICKS).max(SHORTEST_LEASE);
        let (epoch, now, mails) = duties::take_lead(&self.database, &self.process.id, lease).await?;
        self.metrics.mail_outbox.set(mails.waiting);
        self.metrics.leader.set(i64::from(epoch.is_some()));
        let Some(epoch) = epoch else {
            if lead.take().is_some() {
                tracing::warn!("another janitor leads now");
            }
            return Ok(());
        };
        if lead.as_ref().is_none_or(|held| held.epoch != epoch) {
            *lead = Some(self.begin(epoch).await?);
        }
        let Some(lead) = lead else { return Ok(()) };

        if mails.is_due {
            self.bell.ring(epoch);
        }
        let expired = duties::end_overdue(&self.database, epoch).await?;
        if expired > 0 {
            tracing::warn!(invocations = expired, "ended past their deadline: is the fleet too small, or did a worker die?");
        }
        lead.kill_switch.tick(&self.database, epoch, now, &self.config, &self.metrics).await?;
        if lead.kept_house_at.elapsed() > HOUSEKEEPING {
            self.keep_house().await?;
            lead.kept_house_at = Instant::now();
        }
        Ok(())
    }

    async fn begin(&self, epoch: i64) -> Result<Lead, StoreError> {
        tracing::info!(epoch, "leading");
        duties::publish_settings(&self.database, &self.config).await?;
        self.keep_house().await?;
        let kill_switch = KillSwitch::begin(&self.database, &self.config.kill_switch).await?;
        Ok(Lead { epoch, kill_switch, kept_house_at: Instant::now() })
    }

    async fn keep_house(&self) -> Result<(), StoreError> {
        let (made, dropped) = duties::keep_partitions(&self.database, self.config.retention.days).await?;
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions");
        }
        processes::forget_silent(&self.database).await
    }
}

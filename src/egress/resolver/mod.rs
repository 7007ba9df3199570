//! Names to addresses: fixed answers first, else every A and AAAA record from DNS.
//!
//! No hosts file and no search list: what a name means must not depend on this machine.
//! Both families are asked at once, and neither waits long for the other (RFC 8305, section 3).
//! What comes too late for one call is judged at the next (`late`). Whether silence is the
//! fault of a domain's name servers or of our resolvers is decided by `pulse`.

mod late;
mod pulse;
mod system;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep_until};

use self::late::Late;
use self::pulse::Pulse;
use super::{CallError, Phase};
use crate::config::{self, ConfigError};
use crate::domain::ErrorCode;

/// How long the addresses of one family wait for those of the other.
const GRACE: Duration = Duration::from_millis(50);
/// After a question that ended with another call's time.
const ASK_ANEW_AFTER: Duration = Duration::from_millis(10);
/// Without an answer for so long, or for half of the budget, the resolvers are asked for another name.
const CONTROL_AFTER: Duration = Duration::from_millis(250);

/// Asks DNS, or answers what the configuration says.
pub struct Resolver {
    fixed: HashMap<String, Vec<IpAddr>>,
    dns: Result<Arc<Dns>, ConfigError>,
}

impl Resolver {
    pub fn new(config: &config::Egress) -> Self {
        let fixed =
            config.resolve.iter().map(|(name, addresses)| (name.trim_end_matches('.').to_ascii_lowercase(), addresses.clone())).collect();
        // Without resolvers the fixed answers still work, and asking another name tells why not.
        Self { fixed, dns: Dns::new(config).map(Arc::new) }
    }

    /// Whether there is any resolver.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.dns.as_ref().map(|_| ()).map_err(ConfigError::clone)
    }

    /// Every address of a name that came in time, and those that came too late for the call before.
    pub async fn resolve(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, CallError> {
        if let Some(addresses) = self.fixed.get(name) {
            return Ok(addresses.clone());
        }
        match &self.dns {
            // Boxed, so that a call that waits for its answer has no room for this in it.
            Ok(dns) => Box::pin(dns.resolve(name, deadline)).await,
            Err(error) => Err(CallError::Ours { code: ErrorCode::NoResolver, why: format!("this worker has no resolver: {error}") }),
        }
    }
}

/// Which kind of address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4 = 0,
    V6 = 1,
}

impl Family {
    fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

type Answer = Result<Vec<IpAddr>, NetError>;
type Question = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Half of a lookup.
enum Side {
    Asking(Question),
    Answered(Answer),
}

impl Side {
    fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Answered(Ok(addresses)) => addresses,
            _ => &[],
        }
    }
}

struct Dns {
    resolver: TokioResolver,
    pulse: Arc<Pulse>,
    late: Arc<Late>,
}

impl Dns {
    fn new(config: &config::Egress) -> Result<Self, ConfigError> {
        let [resolver, control] = system::resolvers(config)?;
        Ok(Self { resolver, pulse: Arc::new(Pulse::new(control)), late: Arc::default() })
    }

    async fn resolve(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, CallError> {
        let absolute = Name::from_ascii(format!("{name}.")).map_err(|_| CallError::Network {
            phase: Phase::Dns,
            code: ErrorCode::DnsInvalidName,
            why: format!("{name} is no name that DNS knows"),
        })?;
        let asked = Instant::now();
        let mut sides = [Family::V4, Family::V6].map(|family| Side::Asking(self.ask(&absolute, family)));
        self.gather(name, &absolute, &mut sides, asked, deadline).await;
        let now = Instant::now();
        let (mut addresses, mut late, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (side, family) in sides.into_iter().zip([Family::V4, Family::V6]) {
            match side {
                Side::Answered(answer) => {
                    match &answer {
                        Ok(found) => {
                            self.late.came(name, family, found, now);
                            addresses.extend(found);
                        }
                        Err(error) if error.is_no_records_found() => self.late.came(name, family, &[], now),
                        Err(_) => late.extend(self.late.remembered(name, family, now)),
                    }
                    answers.push(answer);
                }
                Side::Asking(question) => {
                    late.extend(self.late.remembered(name, family, now));
                    Late::go_on(&self.late, name, family, question, now);
                }
            }
        }
        // Late ones stand beside others. Alone they would hide that nobody answers now.
        if addresses.is_empty() {
            return Err(self.blame(name, &answers, asked));
        }
        addresses.extend(late);
        Ok(addresses)
    }

    /// Asks for one family, and notes when a resolver answers.
    fn ask(&self, name: &Name, family: Family) -> Question {
        let (resolver, pulse, name) = (self.resolver.clone(), Arc::clone(&self.pulse), name.clone());
        Box::pin(async move {
            let found = loop {
                let begun = Instant::now();
                let mut lookup = pin!(resolver.lookup(name.clone(), family.record_type()));
                // What is there at once comes from the cache, and says nothing of the resolvers.
                let at_once = poll_fn(|context| match lookup.as_mut().poll(context) {
                    Poll::Ready(found) => Poll::Ready(Some(found)),
                    Poll::Pending => Poll::Ready(None),
                });
                let found = match at_once.await {
                    Some(cached) => cached,
                    None => {
                        let found = lookup.await;
                        pulse.note(&name, &found);
                        found
                    }
                };
                // The same question of another call is shared while it is in flight, and ends for
                // this one too when the other's time is over. It is asked anew, once that has gone.
                if !matches!(found, Err(NetError::Timeout)) || begun.elapsed() >= system::TIMEOUT {
                    break found;
                }
                tokio::time::sleep(ASK_ANEW_AFTER).await;
            };
            found.map(|lookup| lookup.answers().iter().filter_map(|record| address(&record.data)).collect())
        })
    }

    /// Waits for both families, for one and a little for the other, or until the deadline.
    async fn gather(&self, name: &str, absolute: &Name, sides: &mut [Side; 2], asked: Instant, deadline: Instant) {
        let control_after = CONTROL_AFTER.min(deadline.saturating_duration_since(asked) / 2);
        let mut control_at = asked + control_after;
        let mut enough_at = None;
        loop {
            tokio::select! {
                biased;
                () = progress(sides) => {}
                () = sleep_until(enough_at.unwrap_or(deadline).min(deadline)) => return,
                () = sleep_until(control_at), if enough_at.is_none() => {
                    if !self.pulse.heard_since(asked) {
                        Pulse::ask(&self.pulse, absolute);
                    }
                    control_at = Instant::now() + CONTROL_AFTER;
                }
            }
            let missing = match sides {
                [Side::Answered(_), Side::Answered(_)] => return,
                [_, Side::Asking(_)] => Family::V6,
                [Side::Asking(_), _] => Family::V4,
            };
            if enough_at.is_none() && sides.iter().any(|side| !side.addresses().is_empty()) {
                let now = Instant::now();
                if self.late.is_slow(name, missing, now) {
                    return;
                }
                enough_at = Some(now + GRACE);
            }
        }
    }

    /// Whose fault it is that there is no address.
    fn blame(&self, name: &str, answers: &[Answer], asked: Instant) -> CallError {
        let network = |code, why: String| CallError::Network { phase: Phase::Dns, code, why };
        let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
        let was_silent = errors().any(|error| matches!(error, NetError::Timeout));
        if errors().any(NetError::is_nx_domain) {
            return network(ErrorCode::DnsNoSuchName, format!("{name} does not exist in the public DNS"));
        }
        if (answers.len() < 2 || was_silent) && !self.pulse.heard_since(asked) {
            let why = "no resolver answered this worker, not even for another name; see egress.dns_servers";
            return CallError::Ours { code: ErrorCode::ResolverSilent, why: why.to_owned() };
        }
        if answers.len() < 2 {
            return CallError::OutOfTime { phase: Phase::Dns };
        }
        if errors().any(|error| pulse::is_answer(error) && !error.is_no_records_found()) {
            return network(
                ErrorCode::DnsFailure,
                format!("{name} could not be resolved: the domain's name servers answered with a failure"),
            );
        }
        if was_silent {
            return network(
                ErrorCode::DnsNoAnswer,
                format!("{name} could not be resolved: the domain's name servers did not answer in time"),
            );
        }
        match errors().find(|error| !error.is_no_records_found()) {
            Some(error) if pulse::is_refusal(error) => {
                let why = "the resolvers refuse to answer this worker; see egress.dns_servers".to_owned();
                CallError::Ours { code: ErrorCode::ResolverRefused, why }
            }
            Some(error) => {
                CallError::Ours { code: ErrorCode::ResolverUnreachable, why: format!("this worker cannot ask its resolvers: {error}") }
            }
            None => network(ErrorCode::DnsNoAddress, format!("{name} has no address; are its A or AAAA records public?")),
        }
    }
}

/// Waits until one more side has answered.
async fn progress(sides: &mut [Side; 2]) {
    poll_fn(|context| {
        let mut answered = Poll::Pending;
        for side in sides.iter_mut() {
            if let Side::Asking(question) = side
                && let Poll::Ready(answer) = question.as_mut().poll(context)
            {
                *side = Side::Answered(answer);
                answered = Poll::Ready(());
            }
        }
        answered
    })
    .await;
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

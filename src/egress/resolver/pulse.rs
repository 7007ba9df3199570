//! Whether the resolvers answer this worker at all.
//!
//! A name whose servers are silent and a resolver that is silent look the same to who asks. So
//! the moment of every answer is kept, and a lookup without an answer asks for another name
//! beside it: any answer says that the silence is the domain's own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::Instant;

/// How long a control question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the named question was not answered for so long, the root is asked for beside it: the
/// other domain may have fallen silent, too.
const ROOT_AFTER: Duration = Duration::from_millis(250);
/// So many names are known, that one may fall silent and another be asked for.
const NAMES: usize = 2;

/// When the resolvers last answered, and for which names.
pub struct Pulse {
    /// Without a cache: what was answered before proves nothing now.
    control: TokioResolver,
    heard: Mutex<Heard>,
    is_asking: AtomicBool,
}

#[derive(Default)]
struct Heard {
    last: Option<Instant>,
    names: VecDeque<Name>,
}

impl Pulse {
    pub fn new(control: TokioResolver) -> Self {
        Self { control, heard: Mutex::default(), is_asking: AtomicBool::default() }
    }

    /// A lookup ended. Only what a resolver said counts, whatever it said but a refusal.
    pub fn note(&self, name: &Name, found: &Result<Lookup, NetError>) {
        if !found.as_ref().err().is_none_or(is_answer) {
            return;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last = Some(Instant::now());
        // A name that failed may be slow to fail the next time, so it is no good control.
        let is_settled = found.as_ref().err().is_none_or(NetError::is_no_records_found);
        if is_settled && !name.is_root() && heard.names.front() != Some(name) {
            heard.names.retain(|known| known != name);
            heard.names.push_front(name.clone());
            heard.names.truncate(NAMES);
        }
    }

    /// Whether any resolver answered anything after this moment.
    pub fn heard_since(&self, moment: Instant) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).last.is_some_and(|last| last > moment)
    }

    /// Asks for a name that was answered lately, and is not the one that waits. One question at
    /// a time serves everybody who waits.
    pub fn ask(this: &Arc<Self>, waiting: &Name) {
        if this.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let pulse = Asking(Arc::clone(this));
        let heard = this.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let named = heard.names.iter().find(|name| *name != waiting).cloned();
        drop(heard);
        tokio::spawn(async move {
            let question = async {
                let root_after = if named.is_some() { ROOT_AFTER } else { Duration::ZERO };
                let named = async {
                    match named {
                        Some(name) => pulse.0.proves(name, RecordType::A).await,
                        None => std::future::pending().await,
                    }
                };
                let root = async {
                    tokio::time::sleep(root_after).await;
                    pulse.0.proves(Name::root(), RecordType::NS).await;
                };
                tokio::select! {
                    () = named => {}
                    () = root => {}
                }
            };
            if tokio::time::timeout(PATIENCE, question).await.is_err() {
                tracing::warn!("no resolver answers, not even for another name; see egress.dns_servers");
            }
        });
    }

    /// Ends with an answer, and without one never.
    async fn proves(&self, name: Name, kind: RecordType) {
        let found = self.control.lookup(name.clone(), kind).await;
        self.note(&name, &found);
        if !found.as_ref().err().is_none_or(is_answer) {
            std::future::pending::<()>().await;
        }
    }
}

/// A control question in flight, until it is dropped.
struct Asking(Arc<Pulse>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asking.store(false, Ordering::Release);
    }
}

/// Whether an error says that a resolver answered.
pub fn is_answer(error: &NetError) -> bool {
    match error {
        NetError::Dns(_) => !is_refusal(error),
        NetError::Truncated | NetError::QueryCaseMismatch | NetError::ForeignClassRecord { .. } => true,
        _ => false,
    }
}

/// Whether the resolvers refuse to serve us.
pub fn is_refusal(error: &NetError) -> bool {
    matches!(
        error,
        NetError::Dns(
            DnsError::ResponseCode(ResponseCode::Refused)
                | DnsError::NoRecordsFound(NoRecords { response_code: ResponseCode::Refused, .. })
        )
    )
}

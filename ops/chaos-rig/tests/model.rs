//! A small model of the life of two events, checked to the end: two workers, a waiter for each event, a janitor,
//! a worker that dies, a kill, a crash and a promotion.
//!
//! Each step here is one transaction of the product:
//!
//! | step | in the product |
//! |---|---|
//! | `Enqueue` | `actions.enqueue`; the Rust client's commit waits for no disk, others may |
//! | `Claim` | `actions_private.claim`, whose commit waits for no disk |
//! | `Post` | `fleet::execute`; the endpoint may be asked from here on |
//! | `Complete` | `actions_private.complete`, fenced by the token; its commit is durable, and all before it |
//! | `Abandon` | `actions.abandon` at the deadline |
//! | `Expire`, `EndQueued` | the leader's tick |
//! | `Crash` | everything not on disk may be gone, and the server's epoch is another one |
//!
//! Where it differs: a promotion is a crash here, because what a synchronous standby has is what a disk has; the
//! lead is not modelled, because two leaders could do nothing but the same. An enqueue whose answer got lost is
//! asked again under its event id, which makes it the same one (`tests/facts/repeated_events.rs`), and is refused
//! where a crash may have forgotten the first (`actions.enqueue_again`); `EnqueuesAgainAfterACrash` is the product
//! without that.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use stateright::{Checker, HasDiscoveries, Model, Property};

const EVENTS: usize = 2;
const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Verdict,
    Expired,
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Row {
    Absent,
    Queued { epoch: u8 },
    Claimed { token: u8, epoch: u8 },
    Final(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// Holds a claim, and will ask the endpoint unless the action was killed.
    Holds {
        event: usize,
        token: u8,
        is_killed: bool,
    },
    /// Has asked, and has the verdict.
    Asked {
        event: usize,
        token: u8,
    },
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Waiter {
    Waits,
    /// What it acted on; nothing where the database knew the event no more.
    Told(Option<End>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    rows: [Row; EVENTS],
    /// What a crash would leave at least.
    on_disk: [Row; EVENTS],
    posts: [u8; EVENTS],
    is_late: [bool; EVENTS],
    was_enqueued: [bool; EVENTS],
    waiters: [Waiter; EVENTS],
    workers: [Worker; WORKERS],
    epoch: u8,
    next_token: u8,
    is_killed: bool,
    crashes_left: u8,
    deaths_left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Enqueue {
        event: usize,
        waits_for_disk: bool,
    },
    Claim {
        worker: usize,
        event: usize,
    },
    Post {
        worker: usize,
    },
    Complete {
        worker: usize,
    },
    Die {
        worker: usize,
    },
    Deadline {
        event: usize,
    },
    Abandon {
        event: usize,
    },
    Hear {
        event: usize,
    },
    Expire {
        event: usize,
    },
    Kill,
    EndQueued {
        event: usize,
    },
    /// Of which event what was not on disk survives all the same.
    Crash {
        survives: [bool; EVENTS],
    },
}

/// The product, and four that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    AsItIs,
    /// What was queued before a crash is claimed after it.
    ClaimsAcrossEpochs,
    /// An abandon waits for the disk only where its connection does.
    AbandonsWithoutDisk,
    /// A result is written whoever holds the row.
    CompletesWithoutFence,
    /// Whoever does not know whether his event was taken reports it again, also after a crash that forgot it.
    EnqueuesAgainAfterACrash,
}

impl State {
    /// A commit that waits for the disk: the log is sequential, so everything before it is there, too.
    fn sync(&mut self) {
        self.on_disk = self.rows;
    }

    fn is_open(&self, event: usize) -> bool {
        matches!(self.rows[event], Row::Queued { .. } | Row::Claimed { .. })
    }
}

impl Model for Product {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: [Row::Absent; EVENTS],
            on_disk: [Row::Absent; EVENTS],
            posts: [0; EVENTS],
            is_late: [false; EVENTS],
            was_enqueued: [false; EVENTS],
            waiters: [Waiter::Waits; EVENTS],
            workers: [Worker::Idle; WORKERS],
            epoch: 0,
            next_token: 0,
            is_killed: false,
            crashes_left: 2,
            deaths_left: 1,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for event in 0..EVENTS {
            if !state.was_enqueued[event] || (*self == Self::EnqueuesAgainAfterACrash && state.rows[event] == Row::Absent) {
                steps.extend([true, false].map(|waits_for_disk| Step::Enqueue { event, waits_for_disk }));
            }
            if state.is_open(event) && !state.is_late[event] {
                steps.push(Step::Deadline { event });
            }
            // The row of an event that was told of may be gone after a crash: its waiter finds out at its deadline.
            if state.waiters[event] == Waiter::Waits
                && (state.is_late[event] || (state.was_enqueued[event] && state.rows[event] == Row::Absent))
            {
                steps.push(Step::Abandon { event });
            }
            if state.waiters[event] == Waiter::Waits && matches!(state.rows[event], Row::Final(_)) {
                steps.push(Step::Hear { event });
            }
            if state.is_open(event) && state.is_late[event] {
                steps.push(Step::Expire { event });
            }
            if state.is_killed && matches!(state.rows[event], Row::Queued { .. }) {
                steps.push(Step::EndQueued { event });
            }
        }
        for (worker, holds) in state.workers.iter().enumerate() {
            match holds {
                Worker::Idle => {
                    steps.extend((0..EVENTS).filter(|event| self.may_claim(state, *event)).map(|event| Step::Claim { worker, event }));
                }
                Worker::Holds { is_killed: false, .. } => steps.push(Step::Post { worker }),
                Worker::Holds { .. } | Worker::Asked { .. } => steps.push(Step::Complete { worker }),
                Worker::Dead => {}
            }
            if state.deaths_left > 0 && *holds != Worker::Dead {
                steps.push(Step::Die { worker });
            }
        }
        if !state.is_killed {
            steps.push(Step::Kill);
        }
        if state.crashes_left > 0 {
            for survives in [[true, true], [true, false], [false, true], [false, false]] {
                steps.push(Step::Crash { survives });
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Enqueue { event, waits_for_disk } => {
                state.rows[event] = Row::Queued { epoch: state.epoch };
                state.was_enqueued[event] = true;
                if waits_for_disk {
                    state.sync();
                }
            }
            Step::Claim { worker, event } => {
                let token = state.next_token;
                state.next_token += 1;
                state.rows[event] = Row::Claimed { token, epoch: state.epoch };
                state.workers[worker] = Worker::Holds { event, token, is_killed: state.is_killed };
            }
            Step::Post { worker } => {
                let Worker::Holds { event, token, .. } = state.workers[worker] else { return None };
                state.posts[event] += 1;
                state.workers[worker] = Worker::Asked { event, token };
            }
            Step::Complete { worker } => {
                let (event, token, end) = match state.workers[worker] {
                    Worker::Holds { event, token, .. } => (event, token, End::Killed),
                    Worker::Asked { event, token } => (event, token, End::Verdict),
                    Worker::Idle | Worker::Dead => return None,
                };
                let is_ours = matches!(state.rows[event], Row::Claimed { token: held, .. } if held == token);
                if is_ours || (*self == Self::CompletesWithoutFence && state.rows[event] != Row::Absent) {
                    state.rows[event] = Row::Final(end);
                    state.sync();
                }
                state.workers[worker] = Worker::Idle;
            }
            Step::Die { worker } => {
                state.workers[worker] = Worker::Dead;
                state.deaths_left -= 1;
            }
            Step::Deadline { event } => state.is_late[event] = true,
            Step::Abandon { event } => {
                if state.is_open(event) {
                    state.rows[event] = Row::Final(End::Expired);
                    if *self != Self::AbandonsWithoutDisk {
                        state.sync();
                    }
                }
                state.waiters[event] = Waiter::Told(if let Row::Final(end) = state.rows[event] { Some(end) } else { None });
            }
            Step::Hear { event } => {
                let Row::Final(end) = state.rows[event] else { return None };
                state.waiters[event] = Waiter::Told(Some(end));
            }
            Step::Expire { event } => {
                state.rows[event] = Row::Final(End::Expired);
                state.sync();
            }
            Step::Kill => state.is_killed = true,
            Step::EndQueued { event } => {
                state.rows[event] = Row::Final(End::Killed);
                state.sync();
            }
            Step::Crash { survives } => {
                for ((row, on_disk), survives) in state.rows.iter_mut().zip(state.on_disk).zip(survives) {
                    if !survives {
                        *row = on_disk;
                    }
                }
                state.sync();
                state.epoch += 1;
                state.crashes_left -= 1;
                // Time goes on: what was queued before is late sooner or later, whoever waits.
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an endpoint is asked at most once", |_, state: &State| state.posts.iter().all(|posts| *posts <= 1)),
            Property::always("what a waiter acted on is what stays", |_, state: &State| {
                state.waiters.iter().zip(&state.rows).all(|(waiter, row)| match waiter {
                    Waiter::Told(Some(end)) => *row == Row::Final(*end),
                    Waiter::Told(None) | Waiter::Waits => true,
                })
            }),
            Property::always("a verdict comes from an endpoint", |_, state: &State| {
                state.rows.iter().zip(&state.posts).all(|(row, posts)| *row != Row::Final(End::Verdict) || *posts == 1)
            }),
            Property::always("nothing is left when nothing can happen any more", |model: &Self, state: &State| {
                let mut steps = Vec::new();
                model.actions(state, &mut steps);
                steps.retain(|step| !matches!(step, Step::Crash { .. } | Step::Die { .. } | Step::Kill));
                !steps.is_empty() || (0..EVENTS).all(|event| !state.is_open(event) && state.waiters[event] != Waiter::Waits)
            }),
            Property::sometimes("a verdict is acted on", |_, state: &State| state.waiters.contains(&Waiter::Told(Some(End::Verdict)))),
        ]
    }
}

impl Product {
    fn may_claim(self, state: &State, event: usize) -> bool {
        match state.rows[event] {
            Row::Queued { epoch } => epoch == state.epoch || self == Self::ClaimsAcrossEpochs,
            Row::Absent | Row::Claimed { .. } | Row::Final(_) => false,
        }
    }
}

/// The names of the promises that the product breaks, and how many states there are.
fn broken(product: Product) -> (Vec<&'static str>, usize) {
    let enough = if product == Product::AsItIs { HasDiscoveries::All } else { HasDiscoveries::AnyFailures };
    let checker = product.checker().finish_when(enough).spawn_bfs().join();
    let mut names: Vec<&'static str> = checker.discoveries().into_keys().filter(|name| *name != "a verdict is acted on").collect();
    names.sort_unstable();
    (names, checker.unique_state_count())
}

#[test]
fn no_step_of_two_events_breaks_a_promise() {
    let (names, states) = broken(Product::AsItIs);
    eprintln!("{states} states");
    assert_eq!(names, [""; 0]);
    assert!(states > 10_000, "{states}");
}

#[test]
fn each_of_four_mistakes_is_found() {
    for (product, promise) in [
        (Product::ClaimsAcrossEpochs, "an endpoint is asked at most once"),
        (Product::AbandonsWithoutDisk, "what a waiter acted on is what stays"),
        (Product::EnqueuesAgainAfterACrash, "an endpoint is asked at most once"),
        (Product::CompletesWithoutFence, "what a waiter acted on is what stays"),
    ] {
        let (names, _) = broken(product);
        assert!(names.contains(&promise), "{product:?}: {names:?}");
    }
}

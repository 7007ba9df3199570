//! Every rule of the contract as a fact, against a real PostgreSQL, a real TLS server and
//! real processes. Run it with `ops/test`, or one fact with
//! `ops/with-postgres cargo test --test facts NAME`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;
mod support;

mod architecture;
mod break_glass;
mod by_hand;
mod candidates;
mod checks;
mod client;
mod conditions;
mod console;
mod console_browser;
mod crashes;
mod ctl_actions;
mod ctl_doctor;
mod ctl_invocations;
mod ctl_projects;
mod ctl_try;
mod ctl_trying;
mod ctl_usage;
mod endings;
mod enqueue;
mod erasure;
mod failover;
mod heard;
mod held_kills;
mod history;
mod hostile;
mod keep_alive;
mod kill_switch;
mod leadership;
mod lost_answers;
mod mail;
mod mailboxes;
mod migrating;
mod names;
mod outages;
mod overload;
mod programs;
mod prometheus;
mod races;
mod readme;
mod released;
mod repeated_events;
mod rotation;
mod schema;
mod schemas;
mod service;
mod sessions;
mod spread;
mod statuses;
mod traces;
mod trying;
mod upgrading;
mod wire;

//! What tests and the demo share: a database of one's own, real processes, and a real HTTPS
//! endpoint with a certificate made on the spot.
//!
//! For development only: it talks to loopback, and a failure panics with what to do.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a laboratory stops at the first surprise")]

pub mod browser;
pub mod certificate;
pub mod chromium;
pub mod database;
pub mod endpoint;
pub mod line;
pub mod mail_server;
pub mod name_server;
pub mod pooler;
pub mod process;
pub mod provider;
pub mod receiver;
pub mod scrape;
pub mod server;
pub mod stack;
pub mod webhook;

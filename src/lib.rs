//! authio-actions: a customer's HTTPS endpoint decides while a person waits to sign in.
//!
//! The one natural way through the code, room by room:
//!
//! | step | room |
//! |---|---|
//! | **enqueue** | [`client`] (or any PostgreSQL client) calls the SQL function `actions.enqueue` |
//! | **claim** | [`store`] takes the oldest rows with `FOR UPDATE SKIP LOCKED` |
//! | **clear** | [`egress`] judges the URL and every address it resolves to |
//! | **sign** | [`sign`] signs the body with a secret derived for the action |
//! | **post** | [`egress`] makes the call inside its budget |
//! | **judge** | [`judge`] turns the answer into an outcome |
//! | **write back** | [`store`] ends the invocation, fenced by its claim token |
//! | **notify** | [`store`] tells each waiting client |
//!
//! [`fleet`] is the worker that walks this way, [`janitor`] watches over it and mails people
//! through [`smtp`], [`ctl`] is the operator's tool, [`console`] shows people all of it. [`domain`] holds the words all of them share. ARCHITECTURE.md says who
//! may import whom, and a test holds it.

pub mod client;
pub mod config;
pub mod console;
pub mod ctl;
pub mod domain;
pub mod egress;
pub mod fleet;
pub mod janitor;
pub mod judge;
pub mod program;
pub mod replay;
pub mod schema;
pub mod sign;
pub mod smtp;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod trial;

/// What README.md shows of Rust is compiled with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

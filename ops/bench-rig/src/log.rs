//! Brings a new cluster's write-ahead log to the state of one that has run for an hour.
//!
//! A server writes its log into files that it used before. A new one has none: every 16 MiB
//! somebody's commit fills a file with zeros and flushes it, which takes tens of milliseconds
//! while everybody waits. That would be measured, and happens to nobody in production.

use sqlx::{Connection, Executor, PgConnection};

/// As many files as `min_wal_size` of 1 GiB keeps.
const FILES: usize = 64;

pub async fn settle() {
    let url = std::env::var("ACTIONS_TEST_DATABASE_URL").expect("ACTIONS_TEST_DATABASE_URL, which ops/with-postgres sets");
    let mut superuser = PgConnection::connect(&url).await.expect("the private PostgreSQL");
    for _ in 0..FILES {
        superuser.execute("select pg_logical_emit_message(false, 'bench', 'fills a file'), pg_switch_wal()").await.expect("a new file");
    }
    // Makes the files free to be used again.
    superuser.execute("checkpoint").await.expect("a checkpoint");
}

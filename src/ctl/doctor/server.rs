//! What the database server must be like, and who works with it.

use std::time::Duration;

use time::OffsetDateTime;

use super::Finding::{self, Failure, Ok as Well, Warning};
use crate::ctl::screen;
use crate::store::health;

/// Signatures are refused when clocks differ by 300 s; long before that something is wrong.
const MOST_SKEW: Duration = Duration::from_secs(5);
/// From here on making log files stalls nobody: half a minute of a busy fleet.
const KEPT_LOG_MB: i64 = 512;
/// Shares of the queue of notifications: somebody should look, and somebody must act. At 1 no
/// transaction that notifies can commit, so no event gets through.
const FILLING: f64 = 0.1;
const NEARLY_FULL: f64 = 0.5;

pub(super) fn clock(asked: OffsetDateTime, server: OffsetDateTime, answered: OffsetDateTime) -> Finding {
    let there_and_back: time::Duration = answered - asked;
    let here: OffsetDateTime = asked + there_and_back / 2;
    let skew = time::Duration::abs(server - here);
    let ms = skew.whole_milliseconds();
    if skew.unsigned_abs() > MOST_SKEW {
        Failure(format!("this machine and the database differ by {ms} ms; does NTP run on both?"))
    } else {
        Well(format!("differs by {ms} ms from the database's"))
    }
}

/// Settings without which a busy fleet slows down or stumbles.
pub(super) fn upkeep(server: &health::Server) -> Finding {
    if !server.autovacuum {
        return Warning("autovacuum is off: a busy queue slows down within minutes; set autovacuum = on".to_owned());
    }
    if server.kept_log_mb < KEPT_LOG_MB {
        return Warning(format!(
            "min_wal_size is {} MB: under load everybody waits while log files are made; set it to 1GB",
            server.kept_log_mb
        ));
    }
    Well("autovacuum runs, log files are used again".to_owned())
}

/// Whether a commit that was acknowledged survives a crash.
pub(super) fn durability(server: &health::Server) -> Finding {
    if server.durable {
        Well("commits wait for the disk".to_owned())
    } else {
        Warning("fsync or synchronous_commit is off: a crash may forget decided outcomes".to_owned())
    }
}

/// Whether the database can hold every text.
pub(super) fn encoding(server: &health::Server) -> Finding {
    match server.encoding.as_str() {
        "UTF8" => Well("UTF8".to_owned()),
        other => Failure(format!(
            "the database is encoded in {other}, which cannot hold every event; accepted is UTF8: \
             dump it, create database … encoding 'UTF8' template template0, and restore it there"
        )),
    }
}

/// How far the queue of notifications has filled.
pub(super) fn notifications(found: &health::Notifications) -> Finding {
    let percent = format!("{:.0} % of the queue of notifications is in use", (found.usage * 100.0).floor());
    if found.usage < FILLING {
        return Well(percent);
    }
    let holder = match &found.oldest {
        Some(health::Transaction { pid, application, seconds }) => format!(
            "the oldest open transaction is of pid {pid} ({}), for {}; if it listens, end it: select pg_terminate_backend({pid})",
            screen::plain(application),
            screen::age(*seconds)
        ),
        None => "this login may not see whose; as a superuser look in pg_stat_activity for the oldest xact_start, and end that session"
            .to_owned(),
    };
    let text = format!("{percent}: a session that listens and leaves its transaction open holds them; {holder}");
    if found.usage < NEARLY_FULL { Warning(text) } else { Failure(text) }
}

pub(super) fn fleet_of(fleet: &health::Fleet) -> Finding {
    let health::Fleet { workers, janitor_leads, versions, mails_waiting, past_deadline } = fleet;
    if *workers == 0 || !janitor_leads {
        let missing = if *workers == 0 { "no worker runs: start actions-worker" } else { "no janitor leads: start actions-janitor" };
        return Warning(missing.to_owned());
    }
    if versions.len() > 1 {
        return Warning(format!("programs of several versions run: {}", versions.join(", ")));
    }
    if *past_deadline > 0 {
        return Warning(format!("{past_deadline} invocations are past their deadline: is the fleet too small?"));
    }
    Well(format!("{workers} workers, a janitor leads, {mails_waiting} mails wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_queue_of_notifications_is_a_warning_and_a_half_full_one_a_failure() {
        let oldest = || Some(health::Transaction { pid: 4711, application: "psql".to_owned(), seconds: 90.0 });
        let at = |usage| notifications(&health::Notifications { usage, oldest: oldest() });
        assert!(matches!(at(0.0999), Well(text) if text.starts_with("9 %")));
        for (usage, fails) in [(0.1, false), (0.4999, false), (0.5, true), (1.0, true)] {
            let text = match at(usage) {
                Warning(text) if !fails => text,
                Failure(text) if fails => text,
                _ => panic!("{usage}"),
            };
            assert!(text.contains("pid 4711 (psql), for 90 s") && text.contains("pg_terminate_backend(4711)"), "{text}");
        }
        let unseen = notifications(&health::Notifications { usage: 0.2, oldest: None });
        assert!(matches!(unseen, Warning(text) if text.contains("pg_stat_activity")));
    }
}

//! Judges a history by the promises alone. It knows neither the product nor the schedule.

use std::collections::HashMap;

use crate::history::{Asked, Done, History, Plan, Received, Row};

/// Beyond its deadline, a waiter has its outcome within this time while the database answers.
const GRACE_MS: u64 = 2_500;

/// Every promise that was broken, each with what proves it.
pub fn check(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    let rows: HashMap<&str, &Row> = history.rows.iter().map(|row| (row.invocation_id.as_str(), row)).collect();
    let mut received: HashMap<u64, Vec<&Received>> = HashMap::new();
    for request in history.received.iter().filter(|request| request.mode != "shadow") {
        received.entry(request.n).or_default().push(request);
    }
    let mut of_event: HashMap<&str, &Row> = HashMap::new();
    for row in &history.rows {
        if of_event.insert(&row.event_id, row).is_some() {
            broken.push(format!("event {} has two final rows", row.event_id));
        }
    }
    if history.left_in_queue > 0 {
        broken.push(format!("{} invocations have no final outcome although everything is quiet", history.left_in_queue));
    }
    if history.calm_after_ms.is_none() {
        broken.push("some action is not served although nothing goes wrong any more".to_owned());
    }
    broken.extend(history.kills.iter().map(|why| format!("the fleet's own fault killed an action: {why}")));
    for asked in &history.asked {
        let requests = received.get(&asked.n).map(Vec::as_slice).unwrap_or_default();
        of_one(asked, requests, &rows, &of_event, &history.done, &mut broken);
    }
    broken
}

fn of_one(
    asked: &Asked,
    requests: &[&Received],
    rows: &HashMap<&str, &Row>,
    of_event: &HashMap<&str, &Row>,
    done: &[Done],
    broken: &mut Vec<String>,
) {
    let n = asked.n;
    if requests.len() > 1 {
        let events: Vec<&str> = requests.iter().map(|request| request.event_id.as_str()).collect();
        broken.push(format!("{n} was sent {} times: {}", requests.len(), events.join(", ")));
    }
    if let (Some(first), Some(again)) = (&asked.acknowledged, &asked.again)
        && first != again
    {
        broken.push(format!("{n} was reported twice under one event id, and became {first} and {again}"));
    }
    let row = match &asked.acknowledged {
        Some(id) => {
            let row = rows.get(id.as_str());
            if row.is_none() && !asked.gate.is_fleeting {
                broken.push(format!("{n} was acknowledged as {id}, and has no final row"));
            }
            row
        }
        None => requests.first().and_then(|request| of_event.get(request.event_id.as_str())),
    };
    // Every event here is meant for its action, and no action is switched off without another in its place.
    if let Some(source) = asked.outcome.as_ref().and_then(|outcome| outcome["source"].as_str())
        && ["condition", "no_action"].contains(&source)
        && !asked.gate.is_fleeting
    {
        broken.push(format!("{n} passed without a call: {source}"));
    }
    if let Some(row) = row {
        if let Some(outcome) = &asked.outcome
            && outcome != &row.outcome
        {
            broken.push(format!("{n}: its waiter acted on {outcome}, and the history says {}", row.outcome));
        }
        judged(asked, row, !requests.is_empty(), broken);
    }
    in_time(asked, done, broken);
}

/// What was decided is what the endpoint said, or what the action says of failures.
fn judged(asked: &Asked, row: &Row, was_sent: bool, broken: &mut Vec<String>) {
    let (n, status) = (asked.n, row.status.as_str());
    let decision = row.outcome["decision"].as_str().unwrap_or("nothing");
    let expected = match status {
        "ok" | "rejected" => {
            if !was_sent {
                broken.push(format!("{n} ended as {status}, and nobody was asked"));
            }
            let said = match asked.plan {
                Plan::Allow => ("ok", "allow"),
                Plan::Deny => ("rejected", "deny"),
                Plan::Fail | Plan::Hang => ("a failure", "by fail_mode"),
            };
            if said != (status, decision) {
                broken.push(format!("{n}: its endpoint said {}, and it ended as {status} with {decision}", asked.plan.word()));
            }
            return;
        }
        _ => {
            if asked.gate.is_closed {
                "deny"
            } else {
                "allow"
            }
        }
    };
    if decision != expected {
        broken.push(format!("{n} ended as {status} with {decision}; its action says {expected}"));
    }
}

/// Nobody waits past his deadline, while there is a database to say what became of it.
fn in_time(asked: &Asked, done: &[Done], broken: &mut Vec<String>) {
    if asked.left {
        return;
    }
    let is_excused = done.iter().any(|done| {
        done.is_of_database
            && done.at_ms.saturating_sub(done.aftermath_ms) <= asked.ended_ms
            && asked.at_ms <= done.until_ms + done.aftermath_ms
    });
    if is_excused {
        return;
    }
    if asked.outcome.is_none() {
        broken.push(format!("{} has no outcome: {}", asked.n, asked.error.as_deref().unwrap_or("nothing came")));
    }
    let deadline = u64::try_from(asked.wait_ms.unwrap_or(1_000)).unwrap_or_default();
    let took = asked.ended_ms.saturating_sub(asked.at_ms);
    if took > deadline + GRACE_MS {
        broken.push(format!("{} waited for {took} ms, and its deadline was {deadline} ms", asked.n));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Gate;

    fn history() -> History {
        let gate = Gate { project: "p", trigger: "pre_register", is_closed: true, is_fleeting: false };
        let asked = Asked {
            n: 1,
            gate,
            plan: Plan::Deny,
            by: "sql",
            at_ms: 0,
            acknowledged: Some("inv_1".to_owned()),
            wait_ms: Some(1_000),
            again: None,
            outcome: Some(json!({"decision": "deny"})),
            error: None,
            ended_ms: 50,
            left: false,
        };
        let row = Row {
            invocation_id: "inv_1".to_owned(),
            event_id: "evt_1".to_owned(),
            status: "rejected".to_owned(),
            outcome: json!({"decision": "deny"}),
        };
        let request = Received { n: 1, event_id: "evt_1".to_owned(), mode: String::new(), at_ms: 10 };
        History { asked: vec![asked], received: vec![request], rows: vec![row], calm_after_ms: Some(50), ..History::default() }
    }

    #[test]
    fn each_broken_promise_is_found_and_a_kept_one_is_not() {
        assert_eq!(check(&history()), [""; 0]);
        let broken = |change: fn(&mut History)| {
            let mut history = history();
            change(&mut history);
            check(&history).join("\n")
        };
        for (change, found) in [
            ((|h| h.received.push(h.received[0].clone())) as fn(&mut History), "sent 2 times"),
            (|h| h.rows.clear(), "no final row"),
            (|h| h.left_in_queue = 1, "no final outcome"),
            (|h| h.calm_after_ms = None, "not served although"),
            (|h| h.kills.push("why".to_owned()), "own fault killed"),
            (|h| h.asked[0].again = Some("inv_2".to_owned()), "under one event id"),
            (|h| h.asked[0].outcome = Some(json!({"decision": "allow"})), "acted on"),
            (|h| h.asked[0].outcome = None, "no outcome"),
            (|h| h.asked[0].ended_ms = 9_000, "waited for"),
            (|h| h.received.clear(), "nobody was asked"),
            (|h| h.asked[0].outcome = Some(json!({"decision": "allow", "source": "condition"})), "without a call"),
            (|h| (h.rows[0].outcome, h.asked[0].outcome) = (json!({"decision": "allow"}), None), "ended as rejected with allow"),
            (|h| (h.rows[0].status, h.rows[0].outcome) = ("timeout".to_owned(), json!({"decision": "allow"})), "its action says deny"),
        ] {
            assert!(broken(change).contains(found), "{found}: {}", broken(change));
        }
        // A shadow is no second call, and a database that is away excuses whoever waits.
        assert_eq!(broken(|h| h.received.push(Received { mode: "shadow".to_owned(), ..h.received[0].clone() })), "");
        let away = |h: &mut History| {
            h.asked[0].ended_ms = 9_000;
            h.done.push(Done { at_ms: 100, until_ms: 3_000, what: "crash".to_owned(), is_of_database: true, aftermath_ms: 4_000 });
        };
        assert_eq!(broken(away), "");
    }
}

//! In which order two signatures stand while a secret is being rotated.
//!
//! Published receivers read only the last `v1`. The previous secret signs last, until the
//! endpoint refuses a call with 401: then it may have switched, and the current one signs last
//! from the next call on, and the other way round again after another 401. Each worker learns
//! it for itself, at the cost of one call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// More actions than that are forgotten, and start anew.
const MOST: usize = 100_000;

/// Whose signature the receiver reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The current secret's first, the previous one's last: before the endpoint switches.
    PreviousLast,
    /// The previous secret's first, the current one's last: after it has switched.
    CurrentLast,
}

/// The order of each action that is not the first one, under the version of its current secret.
#[derive(Default)]
pub struct Overlaps(Mutex<HashMap<String, (i32, Order)>>);

impl Overlaps {
    /// The order for the next call. A new rotation begins with the previous secret last.
    pub fn order(&self, action: &str, version: i32) -> Order {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.get(action).filter(|(known, _)| *known == version).map_or(Order::PreviousLast, |(_, order)| *order)
    }

    /// A call whose signatures stood in this order was answered 401, so the other order is next.
    /// Many such calls in flight say the same, and turn it once.
    pub fn refused(&self, action: &str, version: i32, order: Order) {
        let next = match order {
            Order::PreviousLast => Order::CurrentLast,
            Order::CurrentLast => Order::PreviousLast,
        };
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() >= MOST {
            orders.clear();
        }
        orders.insert(action.to_owned(), (version, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refused_calls_in_flight_turn_the_order_once_and_a_new_rotation_starts_anew() {
        let overlaps = Overlaps::default();
        let order = overlaps.order("a", 2);
        assert_eq!(order, Order::PreviousLast);
        for _ in 0..4 {
            overlaps.refused("a", 2, order);
        }
        assert_eq!((overlaps.order("a", 2), overlaps.order("b", 2)), (Order::CurrentLast, Order::PreviousLast));
        overlaps.refused("a", 2, Order::CurrentLast);
        assert_eq!(overlaps.order("a", 2), Order::PreviousLast, "an instance that has not switched");
        overlaps.refused("a", 2, Order::PreviousLast);
        assert_eq!(overlaps.order("a", 3), Order::PreviousLast, "of the next secret nothing is known");
    }
}

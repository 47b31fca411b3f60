//! Who waits for which job: each order to PID 1 has a number of its own, and its answer carries it.
//!
//! Several threads may wait at one time: an update for its installer, an operator's rollback, a look at a drive. An answer
//! is kept for the one that it is for, and one that no thread waits for any more is dropped.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// How a job ended: the reason when it was not done.
pub type Ended = Result<(), String>;

/// The orders whose answers are waited for.
pub struct Waits {
    orders: Mutex<Orders>,
    has_ended: Condvar,
}

struct Orders {
    next: u64,
    waiting: BTreeMap<u64, Option<Ended>>,
}

impl Waits {
    /// None yet. Numbers begin at `first`: an answer to an order of an earlier life of this service must not be taken for
    /// one to an order of this one, so that has to be more than that life ever reached.
    pub fn new(first: u64) -> Self {
        Self {
            orders: Mutex::new(Orders { next: first.max(1), waiting: BTreeMap::new() }),
            has_ended: Condvar::new(),
        }
    }

    /// Begins to wait: with a number that goes to PID 1 with the order.
    pub fn begin(&self) -> Wait<'_> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let number = orders.next;
        orders.next += 1;
        orders.waiting.insert(number, None);
        Wait { waits: self, number }
    }

    /// Takes an answer.
    pub fn end(&self, number: u64, ended: Ended) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = orders.waiting.get_mut(&number) {
            *answer = Some(ended);
            self.has_ended.notify_all();
        }
    }
}

/// One order.
pub struct Wait<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Wait<'_> {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits for its answer; `None` when there is none by then.
    pub fn until(self, deadline: Instant) -> Option<Ended> {
        let mut orders = self.waits.orders.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(ended) = orders.waiting.get_mut(&self.number).and_then(Option::take) {
                return Some(ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.waits.has_ended.wait_timeout(orders, left);
            orders = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut orders = self.waits.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_waiter_gets_its_own_result_whichever_comes_first() {
        let waits = Waits::new(1);
        let (install, rollback) = (waits.begin(), waits.begin());
        assert_ne!(install.number(), rollback.number());
        let soon = Instant::now() + Duration::from_secs(20);
        let (first, second) = (install.number(), rollback.number());
        std::thread::scope(|scope| {
            let installed = scope.spawn(|| install.until(soon));
            let rolled_back = scope.spawn(|| rollback.until(soon));
            waits.end(second, Err("no rollback".to_owned()));
            assert_eq!(rolled_back.join().unwrap(), Some(Err("no rollback".to_owned())));
            waits.end(first, Ok(()));
            assert_eq!(installed.join().unwrap(), Some(Ok(())));
        });
    }

    #[test]
    fn a_result_that_comes_late_or_is_of_an_earlier_life_is_nobodys() {
        let waits = Waits::new(100);
        let late = waits.begin();
        let number = late.number();
        assert_eq!(late.until(Instant::now()), None);
        waits.end(number, Ok(()));
        waits.end(99, Ok(()));
        waits.end(0, Ok(()));
        let next = waits.begin();
        assert_eq!(next.until(Instant::now()), None);
        assert!(waits.orders.lock().unwrap().waiting.is_empty());
    }
}

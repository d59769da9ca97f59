//! Transactions that were in each other's way are repeated.

use std::time::Duration;

use obfleet_engine::StoreError;
use tokio::time::sleep;

use crate::sql::was_in_the_way;

/// Transactions in a row that may be rolled back in favour of others.
const MOST: u32 = 8;

/// Longest wait before the first repetition; it doubles each time.
const FIRST_WAIT_MS: u64 = 4;

/// How often one write has been tried.
#[derive(Default)]
pub(super) struct Retries {
    made: u32,
}

impl Retries {
    /// Whether to try again after `error`, having waited for as long as seems good.
    pub async fn worthwhile(&mut self, error: &StoreError) -> bool {
        let StoreError::Unavailable(source) = error else {
            return false;
        };
        let in_the_way = source.downcast_ref().is_some_and(was_in_the_way);
        if !in_the_way || self.made == MOST {
            return false;
        }
        // Two that met once should not meet again: the wait is random.
        let longest = FIRST_WAIT_MS << self.made;
        self.made += 1;
        sleep(Duration::from_micros(rand::random_range(0..=longest * 1000))).await;
        true
    }
}

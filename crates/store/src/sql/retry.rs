//! Writes that were in each other's way are repeated: every one that goes to a server passes through here.
//!
//! A transaction is repeated whole, by [`retried`]; a statement that is one of its own is repeated where it is sent. What a
//! database did with a COMMIT that it did not answer nobody knows, so that is never repeated here.

use std::time::Duration;

use tokio::time::sleep;

use super::dialect::was_in_the_way;

/// Transactions in a row that may be rolled back in favour of others.
const MOST: u32 = 8;

/// Longest wait before the first repetition; it doubles each time.
const FIRST_WAIT_MS: u64 = 4;

/// A failure that may be the database's.
pub(crate) trait Failure {
    /// What the driver said, if it was the database that failed.
    fn of_database(&self) -> Option<&sqlx::Error>;
}

impl Failure for sqlx::Error {
    fn of_database(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

/// Runs `transaction` again, from its beginning to its commit, as long as others are in its way; a bounded number of times.
pub(crate) async fn retried<T, E: Failure, F: Future<Output = Result<T, E>>>(
    mut transaction: impl FnMut() -> F,
) -> Result<T, E> {
    let mut longest = FIRST_WAIT_MS;
    for _ in 0..MOST {
        match transaction().await {
            Err(error) if error.of_database().is_some_and(was_in_the_way) => {}
            other => return other,
        }
        // Two that met once should not meet again: the wait is random.
        sleep(Duration::from_micros(rand::random_range(0..=longest * 1000))).await;
        longest *= 2;
    }
    transaction().await
}

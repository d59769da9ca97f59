//! Statements of a transaction that are sent together.

use super::{Query, Transaction};

/// Gathers statements whose answers nobody waits for, until something has to be asked in between or they are all.
#[derive(Debug)]
pub(crate) struct Batch<'t, 'q> {
    tx: &'t mut Transaction,
    gathered: Vec<Query<'q>>,
}

impl<'t, 'q> Batch<'t, 'q> {
    pub fn new(tx: &'t mut Transaction) -> Self {
        Self {
            tx,
            gathered: Vec::new(),
        }
    }

    /// To be run in its turn.
    pub fn add(&mut self, query: Query<'q>) {
        self.gathered.push(query);
    }

    /// Runs what was gathered; the transaction, for what comes after that.
    pub async fn run(&mut self) -> Result<&mut Transaction, sqlx::Error> {
        if !self.gathered.is_empty() {
            self.tx.execute_all(std::mem::take(&mut self.gathered)).await?;
        }
        Ok(self.tx)
    }
}

//! What befell hosts and proxies.

use super::{Error, Fleet};
use crate::inventory::{EventFilter, FleetEvent};

impl Fleet {
    /// A page of events, the newest first, and how many there are.
    pub async fn events(&self, filter: &EventFilter, skip: u64, most: u64) -> Result<(Vec<FleetEvent>, u64), Error> {
        Ok(self.crew.inventory.events(filter, skip, most).await?)
    }
}

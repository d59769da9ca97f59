//! Whether the server can do its work, for load balancers and service managers.
//!
//! Nothing is answered at all before the database is open and its schema is up to date, so an answer says that much.

use std::{borrow::Cow, sync::Arc, time::Duration};

use obfleet_engine::Engine;
use obfleet_fleet::inventory::{Inventory, InventoryChange};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

/// A database that takes longer is as good as away to whoever asks.
const PATIENCE: Duration = Duration::from_secs(2);

/// Finds out what is missing.
pub struct Health {
    inventory: Arc<dyn Inventory>,
    engine: Engine<InventoryChange>,
}

/// What was found. Whoever asks needs no login, so it tells nothing of the fleet or of the database's whereabouts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether requests should be sent here.
    pub ready: bool,
    /// Each part with `ok`, or what is wrong with it.
    pub checks: Checks,
}

/// The parts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The state database answers.
    pub database: Cow<'static, str>,
    /// The engine claims steps.
    pub engine: Cow<'static, str>,
}

const OK: &str = "ok";

impl Health {
    /// Looks at these.
    pub fn new(inventory: Arc<dyn Inventory>, engine: Engine<InventoryChange>) -> Self {
        Self { inventory, engine }
    }

    /// Asks each part.
    pub async fn look(&self) -> Readiness {
        let database = match timeout(PATIENCE, self.inventory.installation()).await {
            Ok(Ok(_)) => OK,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready");
                "the state database fails; the server's log says why"
            }
            Err(_) => "the state database does not answer in time",
        };
        let engine = match (self.engine.is_claiming(), self.engine.has_lease()) {
            (true, true) => OK,
            (false, _) => "no steps are begun: the server is stopping",
            (true, false) => "the lease on the state database is lost; the server's log says why",
        };
        Readiness {
            ready: database == OK && engine == OK,
            checks: Checks {
                database: database.into(),
                engine: engine.into(),
            },
        }
    }
}

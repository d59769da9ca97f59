//! The only crate with SQL of the state database.
//!
//! [`Database`] opens a file, or connects to a server, and brings the schema up to date; [`schema`] and [`fsck`] are for
//! people who look after it. [`tasks`] is the engine's half: it
//! implements [`obfleet_engine::Store`] and applies the domain's changes in the engine's transactions. [`users`],
//! [`access_keys`], [`sessions`], [`inventory`], [`metrics`], [`audit`] and [`authority`] are tables of the domain's. All of them speak [`sql`]: one text
//! for SQLite and MySQL, ids made here, times
//! as milliseconds, JSON as text, no RETURNING.

pub mod access_keys;
pub mod audit;
pub mod authority;
mod database;
pub mod fsck;
pub mod inventory;
mod location;
pub mod metrics;
mod migrations;
pub mod schema;
pub mod servers;
pub mod sessions;
pub mod sql;
pub mod tasks;
pub mod users;

pub use database::{Database, DatabaseError};
pub use inventory::{InventoryApplier, SqlInventory};
pub use location::{Address, Location, NotAnAddress};
pub use migrations::MigrationError;
pub use tasks::{ApplyError, ChangeApplier, TaskStore};

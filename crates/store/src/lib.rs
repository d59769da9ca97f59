//! The only crate with SQL of the state database.
//!
//! [`Database`] opens the file and brings its schema up to date. [`tasks`] is the engine's half: it implements
//! [`obfleet_engine::Store`] and applies the domain's changes in the engine's transactions. Each of the other modules is
//! a table of the domain's.
//!
//! SQL stays in the subset that SQLite and MySQL share: ids made here, times as milliseconds, JSON as text, no RETURNING.

mod database;
pub mod inventory;
pub mod tasks;
pub mod users;

pub use database::{Database, DatabaseError};
pub use inventory::{InventoryApplier, SqlInventory};
pub use tasks::{ApplyError, ChangeApplier, TaskStore};

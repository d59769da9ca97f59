//! For tests of this workspace: a store in memory, the suite that every store must pass.

mod conformance;
mod memory;

pub use crate::core::check_invariants;
pub use conformance::conformance;
pub use memory::MemoryStore;

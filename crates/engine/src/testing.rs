//! For tests of this workspace: a store in memory, the suite that every store must pass, and the invariants of a task.

mod conformance;
mod invariants;
mod memory;

pub use conformance::conformance;
pub use invariants::check_invariants;
pub use memory::MemoryStore;

//! For tests of this workspace: a store in memory, and the suite that every store must pass.

mod conformance;
mod memory;

pub use conformance::conformance;
pub use memory::MemoryStore;

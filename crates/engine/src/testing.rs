//! For tests of this workspace: a store in memory, a layer over any store, the suite that every store must pass.

mod conformance;
mod layer;
mod memory;

pub use crate::core::check_invariants;
pub use conformance::conformance;
pub use layer::StoreLayer;
pub use memory::MemoryStore;

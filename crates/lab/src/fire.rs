//! Operations under fire: everything an operator does with proxies, on real processes, while somebody is killed or a step
//! is stopped.
//!
//! ```text
//! operation   what is done, in which world, and what there should be afterwards: a variant, and a line in three matches
//! point       what befalls which step of which operation, and what then: pure
//! stage       a server, two agents, and what they are given; made empty after each point
//! picture     what there is: inventory, homes, processes, ports and configurations, as lines that can be compared
//! trial       one operation with one point, from the empty stage until everything is judged
//! ```
//!
//! What a struck operation leaves is compared with what the same operation left undisturbed, and what a rollback leaves
//! with what there was before. So an operation says what it does only once, and nothing that it leaves is overlooked.

pub mod operation;
pub mod picture;
pub mod point;
pub mod stage;
pub mod trial;

//! Upgrades during which somebody is killed: the points at which that can happen, the kill, and what must hold after it.
//!
//! ```text
//! point     who is killed, at which step of the task and at which moment of it: pure
//! strike    waits for the moment, kills, starts again what an installation starts again
//! load      clients on the proxies, and what they suffer
//! account   what ran again although it had succeeded: pure
//! ordeal    one upgrade with its strikes, from its submission until everything is judged
//! ```

pub mod account;
pub mod load;
pub mod ordeal;
pub mod point;
mod strike;

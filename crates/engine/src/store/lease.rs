//! What servers that share a database need of it: leases by its clock, and a look at what there is to do.
//!
//! A lease is the right of one process to change tasks. Each process has an *incarnation* of its own, granted a lease once
//! and never again after it ended, so that whoever finds it dead may rely on it. Every write names the incarnation it is
//! made by, and the database refuses it with [`StoreError::LeaseLost`](super::StoreError::LeaseLost) when that holds no
//! lease at its own clock: a process that was stopped for a while, however late it wakes up, changes nothing.

use std::time::Duration;

use crate::state::{Owner, SubtaskId, TaskId};

/// A process that asks for the lease of its server.
#[derive(Clone, Debug)]
pub struct LeaseRequest<'a> {
    /// The server, and an incarnation that never had a lease.
    pub owner: &'a Owner,
    /// How long the lease lasts unless it is renewed.
    pub ttl: Duration,
    /// Whether a predecessor's lease is ended at once. Only who knows it to be dead may ask for that, by the lock of the
    /// server's state directory; everybody else waits until the lease is over.
    pub replaces: bool,
    /// Release of the program.
    pub version: &'a str,
    /// Where other servers reach this one.
    pub url: Option<&'a str>,
}

/// What a server finds when it looks for work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Tasks with a subtask that is READY and due.
    pub due: Vec<DueTask>,
    /// Every attempt under way anywhere.
    pub held: Vec<HeldSubtask>,
}

/// A task with something to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTask {
    /// The task.
    pub task: TaskId,
    /// Its revision: there is nothing new in it as long as that is the same.
    pub rev: i64,
}

/// An attempt under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSubtask {
    /// The task.
    pub task: TaskId,
    /// The subtask.
    pub subtask: SubtaskId,
    /// The attempt's fence.
    pub epoch: i64,
    /// Whether it was asked to stop.
    pub canceling: bool,
    /// Who holds it.
    pub owner: Owner,
    /// Whether the owner has its lease. One that has not will never have it again.
    pub alive: bool,
}

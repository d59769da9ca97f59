//! Every interleaving of two servers on one store: one may be killed, one may be stopped past its lease and go on writing,
//! each may be stopped in an orderly way, and one commit may be under way for any time. The rules and the store's tests are the real ones.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use obfleet_engine::core::{Change, Command, Env, decide};
use obfleet_engine::state::{Subtask, SubtaskSpec};
use obfleet_engine::store::{Commit, LeaseRequest};
use obfleet_engine::testing::{MemoryStore, check_invariants};
use obfleet_engine::{
    Cause, ContextDelta, Failure, Owner, Store as _, StoreError, SubtaskId, SubtaskOperation, SubtaskStatus, TaskState,
    TaskStatus,
};

use crate::support::{env, node, of_release, task};

/// A server's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    /// Has its lease.
    Leased,
    /// Runs, and does not know yet that its lease is over.
    Late,
    /// Was killed.
    Dead,
}

/// An attempt in a process: server, subtask, epoch.
type InFlight = (usize, SubtaskId, i64);

#[derive(Clone)]
struct World {
    db: TaskState,
    processes: [Process; 2],
    incarnations: [u8; 2],
    attempts: BTreeSet<InFlight>,
    /// A commit that has not arrived: its author, the rows it was decided on, and the command.
    under_way: Option<(Owner, TaskState, Command)>,
    /// Successes so far, by subtask.
    successes: Vec<u8>,
    /// Kills, stops and delays left.
    kills: u8,
    stops: u8,
    delays: u8,
}

/// What tells worlds apart for the future: epochs and revs only ever grow, so only how they compare counts.
type Key = (
    Vec<(SubtaskStatus, SubtaskOperation, u32, u32, bool, Option<String>)>,
    TaskStatus,
    [Process; 2],
    Vec<(usize, SubtaskId, bool)>,
    Option<(String, bool, String)>,
    (u8, u8, u8),
);

impl World {
    fn key(&self) -> Key {
        let rows = self.db.subtasks.iter().map(|row| {
            let owner = row.owner.as_ref().map(|owner| self.told(owner));
            let failed = row.failure.is_some();
            (row.status, row.operation, row.run_time, row.crash_count, failed, owner)
        });
        let attempts = self.attempts.iter();
        let attempts = attempts.map(|&(server, subtask, epoch)| (server, subtask, self.epoch(subtask) == epoch));
        let under_way = self.under_way.as_ref().map(|(author, before, command)| {
            let fresh = before.task.rev == self.db.task.rev;
            (self.told(author), fresh, kind(command))
        });
        (
            rows.collect(),
            self.db.task.status,
            self.processes,
            attempts.collect(),
            under_way,
            (self.kills, self.stops, self.delays),
        )
    }

    /// A process, by what counts: whether it is the current one of its server.
    fn told(&self, owner: &Owner) -> String {
        let current = (0..2).any(|server| self.owner(server) == *owner);
        format!("{} {current}", owner.server)
    }

    fn owner(&self, server: usize) -> Owner {
        Owner {
            server: format!("server {server}"),
            incarnation: format!("{server}.{}", self.incarnations[server]),
        }
    }

    fn epoch(&self, subtask: SubtaskId) -> i64 {
        self.db.subtasks[self.db.index_of(subtask).unwrap()].epoch
    }

    fn has_lease(&self, owner: &Owner) -> bool {
        (0..2).any(|server| self.processes[server] == Process::Leased && self.owner(server) == *owner)
    }

    /// The store as it stands, for one commit.
    fn store(&self) -> MemoryStore<()> {
        let store = MemoryStore::holding(self.db.clone());
        for server in (0..2).filter(|&server| self.processes[server] == Process::Leased) {
            let request = LeaseRequest {
                owner: &self.owner(server),
                ttl: Duration::from_secs(3600),
                replaces: true,
                version: "",
                url: None,
            };
            store.grant_lease(&request).now_or_never().unwrap().unwrap();
        }
        store
    }

    /// Decides on `before` and commits to the store as it stands now. `None` when that was refused.
    fn commit(&self, author: &Owner, before: &TaskState, command: &Command) -> Option<Self> {
        let env = Env {
            owner: author.clone(),
            ..of_release(env(0), knows_new(author))
        };
        let decision = decide(before, command.clone(), &env).ok()?;
        let commit = Commit::of(author, before, &decision, &[]);
        match self.store().commit(commit).now_or_never().unwrap() {
            Ok(()) => {}
            Err(StoreError::Stale | StoreError::LeaseLost) => return None,
            Err(error) => panic!("{error}"),
        }
        assert!(
            self.has_lease(author),
            "{author:?} has no lease, and changed the task by {command:?}"
        );
        assert_eq!(before.task.rev, self.db.task.rev, "decided on old rows: {command:?}");
        if let Some((_, subtask, epoch)) = attempt_of(author, command) {
            assert_eq!(
                self.epoch(subtask),
                epoch,
                "an attempt that was given up changed the task by {command:?}"
            );
        }
        let mut after = self.clone();
        after.db = decision.state.clone();
        assert_eq!(check_invariants(&after.db), Ok(()));
        let server = number(author);
        for event in &decision.events {
            match &event.change {
                Change::SubClaimed { subtask, epoch, .. } => {
                    let class = &after.db.subtasks[after.db.index_of(*subtask).unwrap()].spec.class_name;
                    assert!(
                        class == "work" || knows_new(author),
                        "{author:?} claims what it does not know"
                    );
                    after.attempts.insert((server, *subtask, *epoch));
                }
                Change::SubSucceeded { subtask, .. } => {
                    let index = after.db.index_of(*subtask).unwrap();
                    after.successes[index] += 1;
                    assert_eq!(after.successes[index], 1, "subtask {index} succeeded twice");
                }
                _ => {}
            }
        }
        for rows in after.db.subtasks.iter() {
            let legal = after.attempts.iter().filter(|&&(server, subtask, epoch)| {
                subtask == rows.id && epoch == rows.epoch && after.processes[server] == Process::Leased
            });
            assert!(legal.count() <= 1, "two attempts hold one epoch");
        }
        Some(after)
    }

    /// What a server may want: also one that does not know that its lease is over.
    fn commands(&self, server: usize) -> Vec<Command> {
        let mut commands = Vec::new();
        for row in &self.db.subtasks {
            if row.status == SubtaskStatus::Ready {
                commands.push(Command::Claim { subtask: row.id });
            }
            // Its deadline: the attempt may go on for a while, and come too late.
            if row.owner.as_ref() == Some(&self.owner(server)) {
                let (subtask, epoch) = (row.id, row.epoch);
                commands.push(Command::Expire { subtask, epoch });
            }
            if let Some(owner) = row.owner.as_ref().filter(|owner| !self.has_lease(owner)) {
                let dead = BTreeSet::from([owner.incarnation.clone()]);
                commands.push(Command::Orphan { dead });
            }
        }
        if self
            .db
            .subtasks
            .iter()
            .any(|row| row.owner.as_ref() == Some(&self.owner(server)))
        {
            commands.push(Command::Release);
        }
        let own = self.attempts.iter().filter(|(of, ..)| *of == server);
        commands.extend(own.flat_map(|&(_, subtask, epoch)| ends(subtask, epoch)));
        commands
    }

    /// The attempt that a command ends is not under way any more.
    fn end_attempt(&mut self, author: &Owner, command: &Command) {
        if let Some(attempt) = attempt_of(author, command) {
            self.attempts.remove(&attempt);
        }
        // A server that stops lets go of its steps only when nothing of them runs any more.
        if *command == Command::Release {
            self.attempts.retain(|(of, ..)| *of != number(author));
        }
    }

    /// Every world that may be next, and whether a move of a server with a lease led there.
    fn next(&self) -> Vec<(Self, bool)> {
        let mut worlds = Vec::new();
        for server in 0..2 {
            let author = self.owner(server);
            if self.processes[server] != Process::Dead {
                for command in self.commands(server) {
                    let committed = self.commit(&author, &self.db, &command);
                    let progress = committed.is_some();
                    let mut after = committed.unwrap_or_else(|| self.clone());
                    after.end_attempt(&author, &command);
                    worlds.push((after, progress));
                    if self.delays > 0 {
                        let mut after = self.clone();
                        after.end_attempt(&author, &command);
                        after.under_way = Some((author.clone(), self.db.clone(), command));
                        after.delays -= 1;
                        worlds.push((after, false));
                    }
                }
            }
            worlds.extend(self.fates(server).into_iter().map(|world| (world, false)));
        }
        if let Some((author, before, command)) = &self.under_way {
            let committed = self.commit(author, before, command);
            // What was decided on old rows is decided again on new ones.
            let again = committed.is_none() && self.has_lease(author);
            let progress = committed.is_some() || again;
            let mut after = committed.unwrap_or_else(|| self.clone());
            after.under_way = None;
            if again {
                after.attempts.extend(attempt_of(author, command));
            }
            worlds.push((after, progress));
        }
        worlds
    }

    /// What may happen to a process.
    fn fates(&self, server: usize) -> Vec<Self> {
        let mut fates = Vec::new();
        let mut become_as = |process, change: &dyn Fn(&mut Self)| {
            let mut after = self.clone();
            after.processes[server] = process;
            change(&mut after);
            fates.push(after);
        };
        let gone = |after: &mut Self| after.attempts.retain(|(of, ..)| *of != server);
        let reborn = |after: &mut Self| {
            gone(after);
            after.incarnations[server] += 1;
        };
        match self.processes[server] {
            Process::Leased => {
                if self.kills > 0 {
                    become_as(Process::Dead, &|after| {
                        gone(after);
                        after.kills -= 1;
                    });
                }
                if self.stops > 0 {
                    become_as(Process::Late, &|after| after.stops -= 1);
                }
            }
            // It finds out and gets a new lease; or it is started again.
            Process::Late | Process::Dead => become_as(Process::Leased, &reborn),
        }
        fates
    }
}

fn number(owner: &Owner) -> usize {
    usize::from(owner.server.ends_with('1'))
}

fn attempt_of(author: &Owner, command: &Command) -> Option<InFlight> {
    match command {
        Command::Finish { subtask, epoch, .. } | Command::Fail { subtask, epoch, .. } => {
            Some((number(author), *subtask, *epoch))
        }
        _ => None,
    }
}

fn ends(subtask: SubtaskId, epoch: i64) -> [Command; 2] {
    let failure = Failure {
        cause: Cause::Error,
        message: "no".into(),
    };
    let delta = ContextDelta::new;
    [
        Command::Finish {
            subtask,
            epoch,
            delta: delta(),
        },
        Command::Fail {
            subtask,
            epoch,
            failure,
            delta: delta(),
        },
    ]
}

fn kind(command: &Command) -> String {
    match command {
        Command::Claim { subtask } => format!("claim {subtask}"),
        Command::Finish { subtask, .. } => format!("finish {subtask}"),
        Command::Fail { subtask, .. } => format!("fail {subtask}"),
        Command::Expire { subtask, .. } => format!("expire {subtask}"),
        Command::Orphan { .. } => "orphan".to_owned(),
        Command::Release => "release".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Server 0 is of a later release than server 1.
fn knows_new(owner: &Owner) -> bool {
    number(owner) == 0
}

/// Visits every world; returns how many there are.
fn explore(nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)]) -> usize {
    let subtasks = nodes.len();
    let first = World {
        db: task(nodes, edges).0,
        processes: [Process::Leased; 2],
        incarnations: [0; 2],
        attempts: BTreeSet::new(),
        under_way: None,
        successes: vec![0; subtasks],
        kills: 1,
        stops: 1,
        delays: 1,
    };
    let mut seen = HashSet::from([first.key()]);
    let mut open = VecDeque::from([first]);
    while let Some(world) = open.pop_front() {
        let next = world.next();
        // What is left to a server of the later release needs one.
        let old = |row: &Arc<Subtask>| row.status != SubtaskStatus::Ready || row.spec.class_name == "work";
        let useful = |server: usize| world.processes[server] == Process::Leased;
        let leased = useful(0) || (useful(1) && world.db.subtasks.iter().all(old));
        let moves = next.iter().any(|(_, progress)| *progress);
        assert!(
            moves || !leased || world.db.task.status != TaskStatus::Running,
            "G10: nothing moves a RUNNING task in {:?}",
            world.key()
        );
        for (after, _) in next {
            if seen.insert(after.key()) {
                open.push_back(after);
            }
        }
    }
    seen.len()
}

#[test]
fn chain_of_two() {
    let worlds = explore(vec![node(0), node(1)], &[(0, 1)]);
    assert!(worlds > 3_000, "only {worlds} worlds");
    println!("{worlds} worlds");
}

#[test]
fn a_step_that_one_server_does_not_know() {
    let new = SubtaskSpec {
        class_name: "new".into(),
        ..node(1)
    };
    let worlds = explore(vec![node(0), new], &[(0, 1)]);
    assert!(worlds > 1_500, "only {worlds} worlds");
    println!("{worlds} worlds");
}

#[test]
fn two_roots() {
    let worlds = explore(vec![node(0); 2], &[]);
    assert!(worlds > 3_000, "only {worlds} worlds");
    println!("{worlds} worlds");
}

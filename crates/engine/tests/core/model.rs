//! The state machine once more, naively: rules as sentences over all nodes, repeated until nothing changes.

use obfleet_engine::{Outcome, SubtaskOperation as Op, SubtaskStatus as St, TaskOperation, TaskStatus};

/// barrier, retries, resumes after a crash, of a class that only some servers know
pub type Kind = (bool, u32, bool, bool);

#[derive(Clone, Debug)]
pub struct Node {
    pub status: St,
    pub op: Op,
    pub run_time: u32,
    pub epoch: i64,
    // What the node is.
    pub barrier: bool,
    pub retries: u32,
    pub resumes: bool,
    /// Of a class that only some servers know.
    pub new: bool,
    pub ups: Vec<usize>,
    pub downs: Vec<usize>,
    // What the model remembers.
    before_ready: St,
    crashes: u32,
    undo_tries: u32,
    /// The attempt that is READY has run before (its server's end brought it back).
    touched: bool,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub status: TaskStatus,
    pub op: TaskOperation,
    pub outcome: Option<Outcome>,
    pub paused: bool,
    pub canceling: bool,
    /// Goes back by itself.
    undoes: bool,
    pub nodes: Vec<Node>,
}

/// A command with indexes instead of ids.
#[derive(Clone, Debug)]
pub enum Ask {
    Claim(usize),
    Finish(usize, i64),
    Fail(usize, i64),
    Expire(usize, i64),
    Checkpoint(usize, i64),
    Crash,
    Release,
    Cancel(usize),
    RetryTask,
    Retry(usize),
    Skip(usize),
    Rollback,
    Pause,
    Unpause,
    CancelTask,
    Abandon,
}

impl Model {
    pub fn new(kinds: &[Kind], edges: &[(usize, usize)], undoes: bool) -> Self {
        let nodes = kinds
            .iter()
            .enumerate()
            .map(|(i, &(barrier, retries, resumes, new))| Node {
                status: if edges.iter().any(|&(_, to)| to == i) {
                    St::Pending
                } else {
                    St::Ready
                },
                op: Op::Execute,
                run_time: 1,
                epoch: 0,
                barrier,
                retries,
                resumes,
                new,
                ups: edges.iter().filter(|e| e.1 == i).map(|e| e.0).collect(),
                downs: edges.iter().filter(|e| e.0 == i).map(|e| e.1).collect(),
                before_ready: St::Pending,
                crashes: 0,
                undo_tries: 0,
                touched: false,
            });
        Self {
            status: TaskStatus::Running,
            op: TaskOperation::Execute,
            outcome: None,
            paused: false,
            canceling: false,
            undoes,
            nodes: nodes.collect(),
        }
    }

    /// Whether the command is admitted, from a server with free slots that knows new classes or not; if so, the model has
    /// moved.
    pub fn step(&mut self, ask: &Ask, slots: usize, knows_new: bool) -> bool {
        let mut next = self.clone();
        let admitted = next.command(ask, knows_new);
        if admitted {
            next.until_nothing_follows(slots, knows_new);
            *self = next;
        }
        admitted
    }

    fn command(&mut self, ask: &Ask, knows_new: bool) -> bool {
        match *ask {
            Ask::Claim(i) => {
                let admitted = self.goes_on() && self.nodes[i].status == St::Ready && self.knows(i, knows_new);
                if admitted {
                    self.claim(i);
                }
                admitted
            }
            Ask::Finish(i, epoch) => {
                self.holds(i, epoch) && {
                    if self.nodes[i].status == St::Canceling {
                        self.failed(i, false);
                    } else {
                        self.done(i);
                    }
                    true
                }
            }
            Ask::Fail(i, epoch) => {
                self.holds(i, epoch) && {
                    let again = self.nodes[i].status == St::Running;
                    self.failed(i, again);
                    true
                }
            }
            Ask::Expire(i, epoch) => {
                self.holds(i, epoch) && {
                    let again = self.nodes[i].status == St::Running;
                    self.nodes[i].epoch += 1;
                    self.failed(i, again);
                    true
                }
            }
            Ask::Checkpoint(i, epoch) => self.holds(i, epoch) && self.nodes[i].status == St::Running,
            Ask::Crash => self.servers_end(true),
            Ask::Release => self.servers_end(false),
            Ask::Cancel(i) => {
                let node = &mut self.nodes[i];
                let admitted = node.status == St::Running;
                if admitted {
                    node.status = St::Canceling;
                    node.op = if node.op == Op::Rollback {
                        Op::Rollback
                    } else {
                        Op::Cancel
                    };
                }
                admitted
            }
            Ask::RetryTask => {
                self.may_retry() && {
                    self.take_up();
                    self.op = TaskOperation::Retry;
                    for i in 0..self.nodes.len() {
                        if self.nodes[i].status == St::Failed {
                            self.retry(i);
                        }
                    }
                    true
                }
            }
            Ask::Retry(i) => {
                self.may_retry() && self.nodes[i].status == St::Failed && {
                    self.take_up();
                    self.retry(i);
                    true
                }
            }
            Ask::Skip(i) => {
                self.nodes[i].status == St::Failed && !self.over() && {
                    let node = &mut self.nodes[i];
                    (node.status, node.op) = match node.op {
                        Op::Rollback => (St::Pending, Op::RollbackSkip),
                        _ => (St::Successful, Op::Skip),
                    };
                    let failed = self.nodes.iter().any(|node| node.status == St::Failed);
                    if self.status == TaskStatus::Failed && !failed {
                        self.take_up();
                    }
                    true
                }
            }
            Ask::Rollback => {
                self.status == TaskStatus::Failed && !self.over() && {
                    self.turn_back();
                    true
                }
            }
            Ask::Pause => {
                let admitted = self.goes_on();
                self.paused |= admitted;
                admitted
            }
            Ask::Unpause => std::mem::take(&mut self.paused),
            Ask::CancelTask => {
                self.status == TaskStatus::Running && !self.canceling && {
                    (self.canceling, self.paused) = (true, false);
                    for i in 0..self.nodes.len() {
                        self.command(&Ask::Cancel(i), knows_new);
                    }
                    self.park();
                    true
                }
            }
            Ask::Abandon => {
                let admitted = self.status == TaskStatus::Failed && !self.over();
                if admitted {
                    self.outcome = Some(Outcome::Abandoned);
                }
                admitted
            }
        }
    }

    fn knows(&self, i: usize, knows_new: bool) -> bool {
        knows_new || self.nodes[i].barrier || !self.nodes[i].new
    }

    /// RUNNING, and nobody holds it up.
    fn goes_on(&self) -> bool {
        self.status == TaskStatus::Running && !self.paused && !self.canceling
    }

    /// For ever.
    fn over(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Abandoned | Outcome::RolledBack))
    }

    fn turn_back(&mut self) {
        self.take_up();
        self.op = TaskOperation::Rollback;
        for node in self.nodes.iter_mut().filter(|node| node.status != St::Pending) {
            node.op = Op::Rollback;
            node.undo_tries = 0;
            if node.status == St::Failed {
                make_ready(node);
            }
        }
    }

    fn take_up(&mut self) {
        (self.status, self.outcome) = (TaskStatus::Running, None);
    }

    fn rest(&mut self, status: TaskStatus, outcome: Option<Outcome>) {
        (self.status, self.outcome) = (status, outcome);
        (self.paused, self.canceling) = (false, false);
    }

    fn holds(&self, i: usize, epoch: i64) -> bool {
        matches!(self.nodes[i].status, St::Running | St::Canceling) && self.nodes[i].epoch == epoch
    }

    fn may_retry(&self) -> bool {
        self.status == TaskStatus::Failed && !self.over() && self.op != TaskOperation::Rollback
    }

    fn claim(&mut self, i: usize) {
        self.nodes[i].status = St::Running;
        self.nodes[i].epoch += 1;
        if self.nodes[i].barrier {
            self.done(i);
        }
    }

    fn done(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.status = if node.op == Op::Rollback {
            St::Pending
        } else {
            St::Successful
        };
        (node.crashes, node.touched) = (0, false);
    }

    fn failed(&mut self, i: usize, may_repeat: bool) {
        let alone = self.nodes.iter().all(|node| node.status != St::Failed);
        let node = &mut self.nodes[i];
        node.status = St::Failed;
        (node.crashes, node.touched) = (0, false);
        let undo = node.op == Op::Rollback;
        let used = if undo { node.undo_tries } else { node.run_time - 1 };
        if may_repeat && alone && used < node.retries {
            if undo {
                node.undo_tries += 1;
                make_ready(node);
            } else {
                self.retry(i);
            }
        } else {
            self.park();
        }
    }

    fn park(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.status == St::Ready) {
            if node.touched {
                node.status = St::Failed;
            } else {
                node.status = node.before_ready;
                if node.op == Op::Retry {
                    node.run_time -= 1;
                }
            }
        }
    }

    fn retry(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.op = Op::Retry;
        node.run_time += 1;
        make_ready(node);
    }

    /// Every attempt's server dies, or is stopped in an orderly way: only the former is counted.
    fn servers_end(&mut self, die: bool) -> bool {
        let held: Vec<_> = (0..self.nodes.len())
            .filter(|&i| matches!(self.nodes[i].status, St::Running | St::Canceling))
            .collect();
        let mut parked = false;
        for &i in &held {
            let node = &mut self.nodes[i];
            node.epoch += 1;
            if node.status == St::Running && node.resumes && (!die || node.crashes < 3) {
                node.status = St::Ready;
                node.crashes += u32::from(die);
                node.touched = true;
            } else {
                let again = node.status == St::Running;
                self.failed(i, again);
                parked |= self.nodes[i].status == St::Failed;
            }
        }
        if parked
            || (!held.is_empty()
                && self.nodes.iter().any(|node| node.status == St::Failed)
                && self.any_failed_of(&held))
        {
            self.park();
        }
        !held.is_empty()
    }

    fn any_failed_of(&self, held: &[usize]) -> bool {
        held.iter().any(|&i| self.nodes[i].status == St::Failed)
    }

    fn until_nothing_follows(&mut self, slots: usize, knows_new: bool) {
        while self.status == TaskStatus::Running && self.follow() {}
        if !self.goes_on() {
            return;
        }
        let ready: Vec<_> = (0..self.nodes.len())
            .filter(|&i| self.nodes[i].status == St::Ready && self.knows(i, knows_new))
            .take(slots)
            .collect();
        for i in ready {
            if !self.nodes[i].barrier {
                self.claim(i);
            }
        }
    }

    /// One thing that follows by itself; `false` when nothing does.
    fn follow(&mut self) -> bool {
        let any = |status: St| self.nodes.iter().any(|node| node.status == status);
        let all = |status: St| self.nodes.iter().all(|node| node.status == status);
        let quiet = !any(St::Ready) && !any(St::Running) && !any(St::Canceling);
        let back = self.op == TaskOperation::Rollback;
        if any(St::Failed) || self.canceling {
            if quiet {
                if self.undoes && !back && !self.paused && !self.canceling {
                    self.turn_back();
                    return true;
                }
                let stuck = back.then_some(Outcome::Stuck);
                let outcome = if self.canceling {
                    Some(Outcome::Cancelled)
                } else {
                    stuck
                };
                self.rest(TaskStatus::Failed, outcome);
            }
            return quiet;
        }
        if all(if back { St::Pending } else { St::Successful }) {
            let outcome = if back { Outcome::RolledBack } else { Outcome::Completed };
            let status = if back && self.undoes {
                TaskStatus::Failed
            } else {
                TaskStatus::Successful
            };
            self.rest(status, Some(outcome));
            return true;
        }
        let is = |&i: &usize, status: St| self.nodes[i].status == status;
        let due = (0..self.nodes.len()).find(|i| {
            let node = &self.nodes[*i];
            if back {
                is(i, St::Successful) && node.downs.iter().all(|down| is(down, St::Pending))
            } else {
                is(i, St::Pending) && node.ups.iter().all(|up| is(up, St::Successful))
            }
        });
        let Some(i) = due else { return false };
        if back {
            self.nodes[i].op = Op::Rollback;
        }
        make_ready(&mut self.nodes[i]);
        if self.nodes[i].barrier && self.goes_on() {
            self.claim(i);
        }
        true
    }
}

fn make_ready(node: &mut Node) {
    node.before_ready = node.status;
    node.status = St::Ready;
    (node.crashes, node.touched) = (0, false);
}

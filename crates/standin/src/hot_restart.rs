//! The hot restart's state machine, pure: what happened goes in, what to do comes out. `lifecycle` does it.
//!
//! The parent forks a child and stops accepting. The child serves on the inherited sockets and sends SIGUSR1, upon which the
//! parent drains and leaves. A child that dies, before or during the drain, makes the parent serve again at its next tick; one
//! that says nothing before the rollback timeout is killed.

use std::time::Duration;

use crate::moment::Moment;

/// Where the hot restart stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing under way.
    WaitCommand,
    /// A child was forked; it may be starting or serving.
    WaitChild,
}

impl State {
    /// The name in `show proxyinfo upgrade`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WaitCommand => "HU_STATE_WAIT_HU_CMD",
            Self::WaitChild => "HU_STATE_WAIT_LOCAL_CR_FINISH",
        }
    }
}

/// A value of `proxy_local_cmd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCommand {
    /// 0
    None,
    /// 1
    Exit,
    /// 2
    Restart,
    /// 3
    Offline,
    /// 4
    Online,
}

impl LocalCommand {
    /// The command with this number; others are none.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Exit,
            2 => Self::Restart,
            3 => Self::Offline,
            4 => Self::Online,
            _ => Self::None,
        }
    }
}

/// What a tick demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickStep {
    /// Nothing.
    Wait,
    /// A command came at the wrong time: log it.
    IgnoreCommand,
    /// Fork and exec, then report with [`HotRestart::forked`].
    Restart,
    /// Leave without a drain.
    Exit,
    /// The child is not ready yet: the store may be used again meanwhile.
    ReopenStore,
    /// Serve again; the child is gone.
    Resume,
    /// Kill the child and serve again.
    KillAndResume(i32),
    /// The child's pid was forgotten and the rollback timeout is over: the real proxy now kills every process of its user.
    KillEverything,
}

/// A drain under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// When it began.
    pub started_at: Moment,
    /// When sessions are cut; `None` for never.
    pub deadline: Option<Moment>,
}

/// The state and what it remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotRestart {
    /// Where it stands.
    pub state: State,
    /// The child, as long as it is not forgotten.
    pub sub_pid: Option<i32>,
    /// What `show proxyinfo upgrade` says of the child.
    pub sub_status: &'static str,
    /// When the child is given up; kept for show after it is over.
    pub rollback_at: Option<Moment>,
    /// The drain.
    pub drain: Option<Drain>,
    child_gone: bool,
}

impl Default for HotRestart {
    fn default() -> Self {
        Self {
            state: State::WaitCommand,
            sub_pid: None,
            sub_status: "",
            rollback_at: None,
            drain: None,
            child_gone: false,
        }
    }
}

impl HotRestart {
    /// Whether this process takes new connections.
    pub fn accepts(&self) -> bool {
        self.state == State::WaitCommand && self.drain.is_none()
    }

    /// The periodic task, with the command found in `proxy_local_cmd`.
    pub fn tick(&mut self, command: LocalCommand, now: Moment) -> TickStep {
        match (self.state, command) {
            (State::WaitCommand, _) if self.drain.is_some() => TickStep::Wait,
            (State::WaitCommand, LocalCommand::Restart) => TickStep::Restart,
            (State::WaitCommand, LocalCommand::Exit) => TickStep::Exit,
            (State::WaitCommand, _) => TickStep::Wait,
            (State::WaitChild, _) if self.child_gone => {
                self.resume("");
                TickStep::Resume
            }
            (State::WaitChild, _) if self.drain.is_none() && self.rollback_at.is_some_and(|at| at <= now) => {
                match self.sub_pid {
                    Some(pid) => {
                        self.resume("exited");
                        TickStep::KillAndResume(pid)
                    }
                    None => TickStep::KillEverything,
                }
            }
            (State::WaitChild, LocalCommand::Restart | LocalCommand::Exit) => TickStep::IgnoreCommand,
            (State::WaitChild, _) if self.drain.is_none() => TickStep::ReopenStore,
            (State::WaitChild, _) => TickStep::Wait,
        }
    }

    fn resume(&mut self, sub_status: &'static str) {
        *self = Self {
            sub_status,
            rollback_at: self.rollback_at,
            ..Self::default()
        };
    }

    /// The child was forked; `None` for a file that could not be executed, which counts as a child that ended at once.
    pub fn forked(&mut self, pid: Option<i32>, now: Moment, rollback_timeout: Duration) {
        *self = Self {
            state: State::WaitChild,
            sub_pid: pid,
            rollback_at: now.checked_add(rollback_timeout),
            child_gone: pid.is_none(),
            ..Self::default()
        };
    }

    /// SIGCHLD for `pid`. A child that was forgotten before is none of ours.
    pub fn child_ended(&mut self, pid: i32) {
        if self.sub_pid == Some(pid) {
            self.child_gone = true;
        }
    }

    /// SIGUSR1: the child serves, or somebody wants this process drained. A second one changes nothing.
    pub fn drain_requested(&mut self, now: Moment, exit_timeout: Option<Duration>) {
        if self.drain.is_none() {
            let deadline = exit_timeout.and_then(|timeout| now.checked_add(timeout));
            self.drain = Some(Drain {
                started_at: now,
                deadline,
            });
        }
    }

    /// SIGUSR2: the child says it ends normally, so it is forgotten.
    pub fn child_says_goodbye(&mut self) {
        self.sub_pid = None;
    }

    /// Whether the drain is over.
    pub fn drained(&self, client_connections: usize, now: Moment) -> bool {
        self.drain
            .is_some_and(|drain| client_connections == 0 || drain.deadline.is_some_and(|deadline| deadline <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    impl std::ops::Add<Duration> for Moment {
        type Output = Self;

        fn add(self, duration: Duration) -> Self {
            self.checked_add(duration).unwrap()
        }
    }

    fn forked(now: Moment) -> HotRestart {
        let mut restart = HotRestart::default();
        assert_eq!(restart.tick(LocalCommand::Restart, now), TickStep::Restart);
        restart.forked(Some(7), now, MINUTE);
        assert!(!restart.accepts());
        restart
    }

    #[test]
    fn a_good_child_lets_the_parent_drain_until_the_deadline_or_the_last_session() {
        let now = Moment::now();
        let mut restart = forked(now);
        restart.drain_requested(now, Some(MINUTE));
        restart.drain_requested(now + MINUTE, Some(MINUTE));
        assert_eq!(restart.tick(LocalCommand::None, now + 10 * MINUTE), TickStep::Wait);
        assert!(!restart.drained(1, now + MINUTE / 2));
        assert!(restart.drained(0, now + MINUTE / 2));
        assert!(restart.drained(1, now + MINUTE));
    }

    #[test]
    fn a_drain_without_deadline_waits_for_the_last_session() {
        let now = Moment::now();
        let mut restart = HotRestart::default();
        restart.drain_requested(now, None);
        assert!(!restart.accepts());
        assert!(!restart.drained(1, now + 1000 * MINUTE));
        assert!(restart.drained(0, now));
    }

    #[test]
    fn a_child_that_dies_is_undone_before_and_during_the_drain() {
        let now = Moment::now();
        for draining in [false, true] {
            let mut restart = forked(now);
            if draining {
                restart.drain_requested(now, None);
            }
            restart.child_ended(8);
            assert!(matches!(
                restart.tick(LocalCommand::None, now),
                TickStep::ReopenStore | TickStep::Wait
            ));
            restart.child_ended(7);
            assert_eq!(restart.tick(LocalCommand::None, now), TickStep::Resume);
            assert!(restart.accepts());
            assert_eq!((restart.sub_pid, restart.sub_status), (None, ""));
            assert_eq!(restart.tick(LocalCommand::Restart, now), TickStep::Restart);
        }
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_a_child_that_died() {
        let now = Moment::now();
        let mut restart = HotRestart::default();
        restart.forked(None, now, MINUTE);
        assert_eq!(restart.tick(LocalCommand::None, now), TickStep::Resume);
    }

    #[test]
    fn a_silent_child_is_killed_after_the_timeout() {
        let now = Moment::now();
        let mut restart = forked(now);
        assert_eq!(
            restart.tick(LocalCommand::None, now + MINUTE / 2),
            TickStep::ReopenStore
        );
        assert_eq!(
            restart.tick(LocalCommand::Restart, now + MINUTE / 2),
            TickStep::IgnoreCommand
        );
        assert_eq!(
            restart.tick(LocalCommand::None, now + MINUTE),
            TickStep::KillAndResume(7)
        );
        assert!(restart.accepts());
        assert_eq!(restart.sub_status, "exited");
        restart.child_ended(7);
        assert_eq!(restart.tick(LocalCommand::None, now + 2 * MINUTE), TickStep::Wait);
    }

    #[test]
    fn a_goodbye_during_the_drain_leaves_nobody_to_accept() {
        let now = Moment::now();
        let mut restart = forked(now);
        restart.drain_requested(now, Some(MINUTE));
        restart.child_says_goodbye();
        restart.child_ended(7);
        assert_eq!(restart.tick(LocalCommand::None, now), TickStep::Wait);
        assert!(!restart.accepts());
    }

    #[test]
    fn a_goodbye_before_the_child_is_ready_ends_in_killing_everything() {
        let now = Moment::now();
        let mut restart = forked(now);
        restart.child_says_goodbye();
        assert_eq!(restart.tick(LocalCommand::None, now + MINUTE), TickStep::KillEverything);
    }

    #[test]
    fn exit_is_taken_only_when_nothing_is_under_way() {
        let now = Moment::now();
        assert_eq!(HotRestart::default().tick(LocalCommand::Exit, now), TickStep::Exit);
        assert_eq!(forked(now).tick(LocalCommand::Exit, now), TickStep::IgnoreCommand);
    }
}

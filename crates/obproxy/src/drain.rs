//! The paced drain: closes a process's sessions where it hurts nobody.
//!
//! OBProxy itself closes nothing before its deadline and then cuts everything at once. An admin session opened to it
//! before the hot restart, the *keeper*, goes on answering there, and can close the others one by one.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use obfleet_wire::agent::{DrainPolicy, DrainReport, Straggler};

use crate::admin::{AdminConn, AdminError, Session};

mod planner;
mod seen;

pub use planner::{DrainPlanner, Step, longest};

/// What a look has shown is acted on within this time, then it is looked again. The time between a look and a kill is
/// when a client may begin a transaction that the kill breaks.
const FRESH: Duration = Duration::from_millis(5);

/// A look whose answer is this late, compared with the quickest one, is not acted on, but at most so many in a row: on
/// a busy host all are late.
const LATE: Duration = Duration::from_millis(5);
const LATE_LOOKS: u32 = 4;

/// `kill proxysession` of a session that ended meanwhile.
const UNKNOWN_SESSION: u16 = 1094;

/// How a drain came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Only admin sessions are left.
    Empty(DrainReport),
    /// The caller asked to stop in the middle; sessions are left.
    Interrupted(DrainReport),
}

impl Drained {
    /// What was done, either way.
    pub fn report(self) -> DrainReport {
        match self {
            Self::Empty(report) | Self::Interrupted(report) => report,
        }
    }
}

/// Closes the client sessions of the process behind `keeper`, as [`DrainPlanner`] decides: in the window those that
/// rest between transactions, at the policy's pace; after it, for at most [`longest`], everybody at the next rest.
/// Transactions are cut only when they have lasted as long as the window, and are told in the report. Admin sessions are
/// left alone: they hold no transaction, and the keeper is one of them. With `only`, other sessions do not count: for a
/// process that still accepts new ones.
///
/// `interrupted` is asked between two looks; the keeper stays usable.
pub async fn drain(
    keeper: &mut AdminConn,
    policy: DrainPolicy,
    only: Option<HashSet<u64>>,
    mut interrupted: impl FnMut() -> bool,
) -> Result<Drained, AdminError> {
    let started = Instant::now();
    let mut planner = DrainPlanner::new(policy);
    let report = |planner: &DrainPlanner| DrainReport {
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..planner.report()
    };
    let (mut quickest, mut late_looks) = (Duration::MAX, 0);
    loop {
        let asked = Instant::now();
        let mut sessions = client_sessions(keeper).await?;
        let looked = Instant::now();
        if let Some(only) = &only {
            sessions.retain(|session| only.contains(&session.id));
        }
        let took = looked - asked;
        quickest = quickest.min(took);
        late_looks = if took - quickest > LATE { late_looks + 1 } else { 0 };
        let mut stale = false;
        match planner.look(started.elapsed(), &sessions) {
            // Whoever ends the process ends the sessions that do not go.
            Step::Empty | Step::GiveUp => return Ok(Drained::Empty(report(&planner))),
            Step::Close(ids) if (1..=LATE_LOOKS).contains(&late_looks) => stale = !ids.is_empty(),
            Step::Close(ids) => {
                late_looks = 0;
                for (number, id) in ids.into_iter().enumerate() {
                    stale = number > 0 && looked.elapsed() > FRESH;
                    if stale {
                        break;
                    }
                    planner.closing(id, started.elapsed());
                    if !close_session(keeper, id).await? {
                        planner.had_left(id);
                    }
                }
            }
        }
        if interrupted() {
            return Ok(Drained::Interrupted(report(&planner)));
        }
        if !stale {
            // A look costs the proxy something: not more than half of the time.
            let pause = planner.look_interval(started.elapsed()).max(took);
            tokio::time::sleep(pause).await;
        }
    }
}

/// The sessions of clients, without those of `@proxysys` users.
pub async fn client_sessions(keeper: &mut AdminConn) -> Result<Vec<Session>, AdminError> {
    let mut sessions = keeper.sessions().await?;
    sessions.retain(|session| !session.is_admin());
    Ok(sessions)
}

/// The sessions that are inside a transaction at this look, for a report on a process that is ended now.
pub async fn inside_transactions(keeper: &mut AdminConn) -> Result<Vec<Straggler>, AdminError> {
    let sessions = client_sessions(keeper).await?;
    let inside = sessions.iter().filter(|session| !session.between_transactions());
    let straggler = |session: &Session| Straggler {
        user: session.full_user(),
        client: session.host.clone(),
        age_ms: 0,
    };
    Ok(inside.map(straggler).collect())
}

/// Whether it was there to be closed.
async fn close_session(keeper: &mut AdminConn, id: u64) -> Result<bool, AdminError> {
    match keeper.kill_session(id).await {
        Ok(()) => Ok(true),
        Err(AdminError::Server {
            code: UNKNOWN_SESSION, ..
        }) => Ok(false),
        Err(error) => Err(error),
    }
}

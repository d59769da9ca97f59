//! What goes wrong in a case, and exactly where: at a step, in one direction, at an end of it, or in one of its calls
//! to an agent.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// A step of a flow, run or undone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub class: String,
    pub index: Option<u32>,
    pub undo: bool,
}

impl Place {
    pub fn undone(&self) -> Self {
        Self {
            undo: true,
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    /// `HotRestart[0]`, `HotRestart[0] undone`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.rsplit('.').next().unwrap_or(&self.class))?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        f.write_str(if self.undo { " undone" } else { "" })
    }
}

/// When, in an attempt. Calls to agents are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is done.
    Begin,
    /// The agent does the first part of the call and reports that it failed.
    Halfway(usize),
    /// The agent has done what the call asked for; the answer is lost.
    After(usize),
    /// The call is on its way for longer than the whole task; nothing is known of it meanwhile.
    Late(usize),
    /// Everything is done, nothing of it is recorded.
    End,
}

/// What then happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The attempt fails, as when a connection breaks.
    Fails,
    /// The same, once no other step of the task can go on: so that all that can be undone will be.
    FailsWhenAlone,
    /// The server dies.
    Crash,
}

/// Why attempts fail here; an operator must find it in the task.
pub const REASON: &str = "the connection broke";

#[derive(Clone, Debug)]
pub struct Trouble {
    pub place: Place,
    pub moment: Moment,
    pub consequence: Consequence,
    /// How often it strikes.
    pub times: u32,
}

/// The troubles of one world, and a record of what steps asked agents for.
#[derive(Default)]
pub struct Troubles {
    open: Mutex<Vec<Trouble>>,
    calls: Mutex<BTreeMap<Place, Vec<&'static str>>>,
    crash: Notify,
}

impl Troubles {
    pub fn add(&self, trouble: Trouble) {
        self.open.lock().unwrap().push(trouble);
    }

    /// What was wrong is repaired.
    pub fn clear(&self) {
        self.open.lock().unwrap().clear();
    }

    /// What has not struck as often as it should.
    pub fn left(&self) -> Vec<Trouble> {
        let open = self.open.lock().unwrap();
        open.iter().filter(|trouble| trouble.times > 0).cloned().collect()
    }

    /// What happens here and now.
    pub fn strike(&self, place: &Place, moment: Moment) -> Option<Consequence> {
        let mut open = self.open.lock().unwrap();
        let trouble = open
            .iter_mut()
            .find(|trouble| trouble.times > 0 && trouble.place == *place && trouble.moment == moment)?;
        trouble.times -= 1;
        Some(trouble.consequence)
    }

    /// What each step asked agents for, in order.
    pub fn calls(&self) -> BTreeMap<Place, Vec<&'static str>> {
        self.calls.lock().unwrap().clone()
    }

    /// The server is dead from here on: its steps never come to their end.
    pub async fn die(&self) -> ! {
        self.crash.notify_one();
        std::future::pending().await
    }

    /// Returns when the server has died.
    pub async fn death(&self) {
        self.crash.notified().await;
    }
}

tokio::task_local! {
    /// The attempt that is under way in this task.
    pub static ATTEMPT: Under;
}

/// An attempt, as its calls see it.
#[derive(Clone)]
pub struct Under {
    pub place: Place,
    calls: Arc<AtomicUsize>,
}

impl Under {
    pub fn new(place: Place) -> Self {
        Self {
            place,
            calls: Arc::default(),
        }
    }

    /// Notes a call. → its number
    pub fn calls(&self, troubles: &Troubles, what: &'static str) -> usize {
        let mut calls = troubles.calls.lock().unwrap();
        calls.entry(self.place.clone()).or_default().push(what);
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }
}

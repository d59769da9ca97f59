//! A server that is nothing but its engine, in a process of its own: what several servers are made of.
//!
//! It is this executable once more, told by lines on its input what to submit, and telling by lines on its output what its
//! engine does. It ends with its input, and so with whoever started it.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Notice, Options, Output, Registry, Sharing, Spec, TaskStatus,
};
use obfleet_fleet::inventory::InventoryChange;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::place::Open;
use crate::workload::{Step, chain8, fan_out_of, submission};

/// First argument of such a process. Its server's name and the address of the state database follow.
pub const MODE: &str = "worker";

/// It takes orders.
pub const READY: &str = "ready";
/// A task is SUCCESSFUL by a commit of this server's.
pub const ENDED: &str = "ended";
/// The first attempt at a step that is to be interrupted has begun here, and goes on until it is.
pub const HELD: &str = "held";
/// A later attempt at such a step has begun here.
pub const RESUMED: &str = "resumed";

/// Orders `count` chains submitted at once.
pub fn chains(count: usize) -> String {
    format!("chains {count}")
}

/// Orders a task of `count` parallel steps that are to be interrupted.
pub fn hold(count: u32) -> String {
    format!("hold {count}")
}

/// What such a process does.
pub async fn work(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let (Some(name), Some(address)) = (arguments.next(), arguments.next()) else {
        bail!("a worker needs a name and an address");
    };
    let open = Open::at(&address).await?;
    let registry = Registry::new([
        Arc::new(Step::default()) as Arc<dyn Action<InventoryChange>>,
        Arc::new(Hold),
    ])?;
    let options = Options {
        sharing: open.is_shareable().then(Sharing::default),
        ..Options::new(name.to_string_lossy())
    };
    let engine = Engine::start(open.store(), registry, options).await?;
    let teller = tokio::spawn(tell_ends(engine.subscribe()));
    println!("{READY}");
    let mut orders = BufReader::new(stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        obey(&engine, &order).await?;
    }
    engine.shutdown().await;
    teller.abort();
    open.close().await;
    Ok(())
}

async fn obey(engine: &Engine<InventoryChange>, order: &str) -> Result<()> {
    let (what, count) = order.split_once(' ').context("an order is a word and a number")?;
    let mut submissions = JoinSet::new();
    match what {
        "chains" => {
            for _ in 0..count.parse::<usize>()? {
                let (engine, chain) = (engine.clone(), submission(chain8()?));
                submissions.spawn(async move { engine.submit(chain).await });
            }
        }
        "hold" => {
            let (engine, held) = (engine.clone(), submission(fan_out_of(HOLD, count.parse()?)?));
            submissions.spawn(async move { engine.submit(held).await });
        }
        _ => bail!("there is no order {what:?}"),
    }
    while let Some(submitted) = submissions.join_next().await {
        submitted??;
    }
    Ok(())
}

async fn tell_ends(mut notices: broadcast::Receiver<Notice>) -> Result<()> {
    loop {
        match notices.recv().await {
            Ok(notice) if notice.status == TaskStatus::Successful => println!("{ENDED}"),
            Ok(_) => {}
            // A lost end shows as a task that is not over by the deadline.
            Err(broadcast::error::RecvError::Lagged(lost)) => eprintln!("{lost} notices were lost"),
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

const HOLD: &str = "bench.Hold";

/// Ends in any attempt but the first.
struct Hold;

#[async_trait]
impl Action<InventoryChange> for Hold {
    fn spec(&self) -> Spec {
        Spec::new(HOLD, "Hold", 600)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<InventoryChange>, ActionError> {
        if attempt.epoch() > 1 {
            println!("{RESUMED}");
            return Ok(Output::nothing());
        }
        println!("{HELD}");
        attempt.cancelled().cancelled().await;
        Err(ActionError::new("interrupted"))
    }
}

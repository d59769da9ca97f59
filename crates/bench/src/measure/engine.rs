//! What the engine takes, in this process, with steps that take nothing.
//!
//! Bare transactions are made in turns with what they are compared to: the disk of a shared machine is not the same from
//! one minute to the next.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::figure::Reading;
use crate::place::Place;
use crate::sample::{Sample, ms};
use crate::workload::{CHAIN_COMMITS, CHAIN_NODES, Workload, chain8, fan_out as fan, steps};

/// Turns of one measurement.
const TURNS: usize = 10;
/// Hops of one turn, and bare transactions beside them.
const HOPS: usize = 60;
/// Chains of one turn.
const CHAINS: usize = 20;
/// Chains in flight.
const IN_FLIGHT: usize = 32;
/// How long chains are kept in flight: first unmeasured, then measured.
const WARM: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(4);
/// Parallel steps of the wide task.
const FAN_WIDTH: u32 = 1000;
/// Bare transactions beside what is not made in turns.
const BARE: usize = 200;

/// The time from the end of one step to the beginning of the next.
pub async fn hop(place: &Place) -> Result<Vec<Reading>> {
    let open = place.open().await?;
    let workload = Workload::start(open.store()).await?;
    let mut bare = place.bare().await?;
    // Statements are prepared, caches filled.
    workload.run(steps(HOPS)?).await?;
    bare.sample(HOPS).await?;
    let (mut hops, mut floor) = (Sample::default(), Sample::default());
    for _ in 0..TURNS {
        floor.extend(bare.sample(HOPS).await?);
        for took in workload.hops(HOPS).await? {
            hops.push(took);
        }
    }
    workload.stop().await;
    open.close().await;
    bare.close().await;
    Ok(vec![
        Reading::new("bare_tx_p50", floor.p50(), "ms"),
        Reading::new("bare_tx_p99", floor.p99(), "ms"),
        Reading::new("hop_p50", hops.p50(), "ms").floor(floor.p50()),
        Reading::new("hop_p99", hops.p99(), "ms").floor(floor.p99()),
    ])
}

/// A chain from its submission to its end.
pub async fn chain(place: &Place) -> Result<Vec<Reading>> {
    let open = place.open().await?;
    let workload = Workload::start(open.store()).await?;
    let mut bare = place.bare().await?;
    workload.run(chain8()?).await?;
    bare.sample(CHAIN_COMMITS).await?;
    let (mut chains, mut floor) = (Sample::default(), Sample::default());
    for _ in 0..TURNS {
        floor.extend(bare.sample(CHAINS * CHAIN_COMMITS).await?);
        for _ in 0..CHAINS {
            chains.push(workload.run(chain8()?).await?);
        }
    }
    workload.stop().await;
    open.close().await;
    bare.close().await;
    let floor = floor.sums(CHAIN_COMMITS);
    Ok(vec![
        Reading::new("chain8_p50", chains.p50(), "ms").floor(floor.p50()),
        Reading::new("chain8_p99", chains.p99(), "ms").floor(floor.p99()),
    ])
}

/// Nodes per second with many chains always in flight.
pub async fn throughput(place: &Place) -> Result<Vec<Reading>> {
    let open = place.open().await?;
    let workload = Workload::start(open.store()).await?;
    let floor = bare_mean(place).await?;
    let from = Instant::now() + WARM;
    let until = from + MEASURED;
    let mut clients = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let workload = workload.clone();
        clients.spawn(async move {
            let mut ended = 0_usize;
            while Instant::now() < until {
                workload.run(chain8()?).await?;
                ended += usize::from((from..until).contains(&Instant::now()));
            }
            anyhow::Ok(ended)
        });
    }
    let mut chains = 0;
    while let Some(ended) = clients.join_next().await {
        chains += ended??;
    }
    workload.stop().await;
    open.close().await;
    let per_s = (chains * CHAIN_NODES) as f64 / MEASURED.as_secs_f64();
    let bare_per_s = CHAIN_NODES as f64 * 1000.0 / (CHAIN_COMMITS as f64 * floor);
    Ok(vec![Reading::new("steps_per_s", per_s, "1/s").floor(bare_per_s)])
}

/// One task of a thousand parallel steps, from its submission to its end.
pub async fn fan_out(place: &Place) -> Result<Vec<Reading>> {
    let open = place.open().await?;
    let workload = Workload::start(open.store()).await?;
    workload.run(chain8()?).await?;
    let floor = bare_mean(place).await?;
    let took = workload.run(fan(FAN_WIDTH)?).await?;
    workload.stop().await;
    open.close().await;
    let one_by_one = f64::from(FAN_WIDTH) * floor;
    Ok(vec![Reading::new("fanout1000", ms(took), "ms").floor(one_by_one)])
}

/// Milliseconds of one bare transaction of many, one after the other.
pub(super) async fn bare_mean(place: &Place) -> Result<f64> {
    let mut bare = place.bare().await?;
    bare.sample(CHAIN_COMMITS).await?;
    let mean = bare.sample(BARE).await?.mean();
    bare.close().await;
    Ok(mean)
}

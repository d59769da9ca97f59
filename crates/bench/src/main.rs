//! How fast obfleet is on this machine, beside the floor its disk sets: `cargo xtask bench`.
//!
//! A [`figure`] is a number with a name. [`measure`] has the measurements, each of which gives a few figures; those of
//! the engine drive it in this process by a [`workload`], on a store made by a [`place`], and measure a [`floor`] of bare
//! transactions in between; those of the server start the real executable, and those of
//! its API make a whole [`fleet`] through it, whose agents do nothing.

mod figure;
mod fleet;
mod floor;
mod measure;
mod place;
mod sample;
mod worker;
mod workload;

use std::env::args_os;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum as _};

use figure::Figure;
use measure::{MEASUREMENTS, Measurement, Setting};
use place::StoreKind;

/// Measures how fast obfleet is on this machine.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// Which figures; all of them if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// One line of JSON for each figure instead of a table
    #[arg(long)]
    json: bool,
    /// Only on this database; on each of them if none is named
    #[arg(long, value_enum)]
    store: Option<StoreKind>,
    /// How often each measurement is made; told is the median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Where databases are put meanwhile: on the disk to be measured
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The obfleet executable, for what is measured on a real server
    #[arg(long, value_name = "FILE")]
    obfleet: PathBuf,
}

fn main() -> Result<()> {
    let mut arguments = args_os().skip(1);
    if arguments.next().is_some_and(|first| first == worker::MODE) {
        return run(worker::work(arguments));
    }
    run(bench(Arguments::parse()))
}

fn run(job: impl Future<Output = Result<()>>) -> Result<()> {
    // As many threads as a server has.
    let cores = available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 8))
        .enable_all()
        .build()?
        .block_on(job)
}

async fn bench(arguments: Arguments) -> Result<()> {
    let chosen = chosen(&arguments.names)?;
    std::fs::create_dir_all(&arguments.dir).with_context(|| format!("cannot make {}", arguments.dir.display()))?;
    let mut setting = Setting {
        store: StoreKind::Sqlite,
        dir: arguments.dir.canonicalize()?,
        obfleet: arguments.obfleet,
    };
    let mut figures = Vec::new();
    for store in arguments
        .store
        .map_or(StoreKind::value_variants().to_vec(), |store| vec![store])
    {
        setting.store = store;
        for measurement in chosen.iter().filter(|measurement| measurement.is_made_on(store)) {
            let mut runs = Vec::new();
            for run in 1..=measurement.runs(arguments.runs) {
                eprintln!("{} on {store}, run {run}", measurement.title());
                runs.push(measurement.run(&setting).await?);
            }
            let is_wanted =
                |figure: &Figure| arguments.names.is_empty() || arguments.names.iter().any(|name| name == figure.name);
            for figure in Figure::medians(store, &runs).into_iter().filter(is_wanted) {
                if arguments.json {
                    println!("{}", serde_json::to_string(&figure)?);
                }
                figures.push(figure);
            }
        }
    }
    if !arguments.json {
        print!("{}", figure::table(&figures));
    }
    Ok(())
}

/// The measurements that give these figures, each once.
fn chosen(names: &[String]) -> Result<Vec<Measurement>> {
    let known = || MEASUREMENTS.iter().flat_map(Measurement::figures);
    if let Some(unknown) = names.iter().find(|name| !known().any(|known| known == name)) {
        let known: Vec<_> = known().copied().collect();
        bail!("there is no figure {unknown:?}; there are {}", known.join(", "));
    }
    let gives = |measurement: &Measurement| {
        measurement
            .figures()
            .iter()
            .any(|figure| names.iter().any(|n| n == figure))
    };
    Ok(MEASUREMENTS
        .into_iter()
        .filter(|measurement| names.is_empty() || gives(measurement))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_chosen_by_name() {
        let names = ["hop_p99".to_owned(), "hop_p50".to_owned(), "start_ms".to_owned()];
        let chosen = chosen(&names).unwrap();
        assert_eq!(chosen, [Measurement::Hop, Measurement::Start]);
        assert_eq!(super::chosen(&[]).unwrap(), MEASUREMENTS);
        let error = super::chosen(&["hop".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("hop_p50"), "{error}");
    }
}

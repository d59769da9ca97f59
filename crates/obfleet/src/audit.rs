//! `obfleet audit`: the records of what was changed, verified and passed on without a server.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context as _, bail};
use obfleet_store::audit;
use obfleet_wire::audit::{AuditRecord, Chain};

use crate::{
    cli::{AuditOrder, StateArgs},
    database,
};

/// A record that was noted somewhere else when it was written: `SEQ:HASH`.
#[derive(Clone, Debug)]
pub struct Noted {
    seq: i64,
    hash: String,
}

impl FromStr for Noted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, hash) = text
            .split_once(':')
            .ok_or("give a record's number and hash, SEQ:HASH")?;
        Ok(Self {
            seq: seq.parse().map_err(|_| "SEQ is a number, as in the server's log")?,
            hash: hash.to_ascii_lowercase(),
        })
    }
}

/// Does what was asked for.
pub async fn audit(order: &AuditOrder) -> anyhow::Result<ExitCode> {
    match order {
        AuditOrder::Verify { state, file, noted } => {
            let mut found = false;
            let mut look = |record: &AuditRecord| {
                let is_it = noted.as_ref().is_some_and(|noted| noted.seq == record.seq);
                found |= is_it && noted.as_ref().is_some_and(|noted| noted.hash == record.hash);
            };
            let chain = match file {
                Some(path) => of_file(path, &mut look).with_context(|| path.display().to_string())?,
                None => {
                    let location = location(state)?;
                    let look = |record: &AuditRecord| {
                        look(record);
                        Ok(())
                    };
                    audit::verify(&location, look).await?
                }
            };
            if let Some(noted) = noted
                && !found
            {
                let seq = noted.seq;
                bail!("record {seq} is not the one that was noted: all records may have been written anew");
            }
            match chain.last() {
                Some((seq, hash)) => {
                    // An export may begin anywhere; whoever cut its beginning off is not told of, so the beginning is.
                    let first = chain.first();
                    println!("records verified: {}, from {first} to {seq}:{hash}", chain.count());
                    if first > 1 && chain.has_its_beginning() {
                        println!("those before {first} were removed as too old, as one of these tells");
                    }
                }
                None => println!("there are no records"),
            }
        }
        AuditOrder::Export { state } => {
            let location = location(state)?;
            let mut to = io::BufWriter::new(io::stdout().lock());
            let write = |record: &AuditRecord| {
                serde_json::to_writer(&mut to, record)?;
                to.write_all(b"\n")
            };
            audit::verify(&location, write).await?;
            to.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn location(state: &StateArgs) -> anyhow::Result<obfleet_store::Location> {
    Ok(obfleet_server::location(
        database::address(state)?.as_ref(),
        &state.state_dir,
    ))
}

/// A line of JSON each, as it was exported.
fn of_file(path: &Path, mut look: impl FnMut(&AuditRecord)) -> anyhow::Result<Chain> {
    let mut chain = Chain::default();
    for (number, line) in (1..).zip(BufReader::new(File::open(path)?).lines()) {
        let record: AuditRecord =
            serde_json::from_str(&line?).with_context(|| format!("line {number} is no record"))?;
        chain.follow(&record)?;
        look(&record);
    }
    Ok(chain)
}

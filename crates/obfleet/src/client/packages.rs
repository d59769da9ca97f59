//! `obfleet package …`

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use obfleet_client::Client;
use reqwest::Method;
use serde_json::Value;

use super::{
    all,
    fleet::{cells, rows},
    show::Shown,
};
use crate::cli::fleet::PackageOrder;

const PACKAGES: &str = "/api/v2/software-packages";
const MIB: u64 = 1 << 20;

/// Runs a command about packages.
pub async fn run(client: &Client, order: PackageOrder) -> anyhow::Result<Shown> {
    match order {
        PackageOrder::List => {
            let packages = all(client, PACKAGES, &[]).await?;
            Ok(shown(packages))
        }
        PackageOrder::Upload { files } => {
            let mut taken = Vec::new();
            for file in &files {
                let upload = upload(client, file).await;
                taken.push(upload.with_context(|| format!("{} is not uploaded", file.display()))?);
            }
            Ok(shown(Value::Array(taken)))
        }
        PackageOrder::Delete { id } => {
            let path = format!("{PACKAGES}/{id}");
            client.call(Method::DELETE, &path, &[], None).await?;
            Ok(Shown::done("the package is deleted"))
        }
    }
}

fn shown(packages: Value) -> Shown {
    let members = ["id", "fileName", "architecture", "operatingSystem", "size"];
    let titles = ["ID", "FILE", "ARCHITECTURE", "SYSTEM", "BYTES"];
    let rows = rows(&packages, |package| cells(package, &members));
    Shown::table(packages, &titles, rows)
}

/// Uploads a file, and tells a person how far it is.
async fn upload(client: &Client, file: &Path) -> anyhow::Result<Value> {
    let size = tokio::fs::metadata(file).await.map_or(0, |metadata| metadata.len());
    let is_watched = std::io::stderr().is_terminal();
    let name = file.display().to_string();
    let sent = AtomicU64::new(0);
    let told = move |bytes: u64| {
        let before = sent.fetch_add(bytes, Ordering::Relaxed);
        let now = before + bytes;
        // Once a percent, or for what is small once.
        let percent = |bytes: u64| bytes.saturating_mul(100) / size.max(1);
        if is_watched && percent(before) != percent(now) {
            eprint!("\r{name}: {} %, {} of {} MiB", percent(now), now / MIB, size / MIB);
            let _ = std::io::stderr().flush();
        }
    };
    let answer = client.upload(PACKAGES, file, told).await;
    if is_watched {
        eprintln!();
    }
    Ok(answer?)
}

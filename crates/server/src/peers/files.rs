//! Package files between servers: asked for by their digest, and checked against it.

use std::{io, path::Path, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use obfleet_fleet::{inventory::Package, package_files::OtherStores};
use obfleet_store::servers::OtherServer;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::{Peers, checked};

/// How long an upload waits for the others to have the file, too. Those that take longer go on.
const OFFER_PATIENCE: Duration = Duration::from_secs(30);

/// Where the file with this digest is had, and offered.
pub fn path(sha256: &str) -> String {
    format!("/internal/packages/{sha256}")
}

#[async_trait]
impl OtherStores for Peers {
    async fn fetch(&self, package: &Package, to: &Path) -> Result<(), String> {
        let mut refusals = Vec::new();
        for other in self.others().await {
            let fetched = self.fetch_from(&other, package, to).await;
            self.metrics.peers.fetched(fetched.is_ok());
            match fetched {
                Ok(()) => return Ok(()),
                Err(refusal) => refusals.push(refusal),
            }
        }
        match refusals.is_empty() {
            true => Err("no other server runs".to_owned()),
            false => Err(refusals.join("; ")),
        }
    }

    async fn offer(&self, package: &Package) {
        let others = self.others().await;
        join_all(others.iter().map(|other| self.offer_to(other, package))).await;
    }
}

impl Peers {
    async fn fetch_from(&self, other: &OtherServer, package: &Package, to: &Path) -> Result<(), String> {
        let OtherServer { id, url } = other;
        let unanswered = |error: reqwest::Error| format!("server {id} at {url} does not answer: {error}");
        let call = self.call(other, Method::GET, &path(&package.sha256));
        let mut answer = checked(other, call.send().await.map_err(unanswered)?)?;
        let written = |error: io::Error| format!("{} cannot be written: {error}", to.display());
        let mut file = File::create(to).await.map_err(written)?;
        let (mut digest, mut size) = (Sha256::new(), 0);
        let wrong = || format!("server {id} at {url} gave another file");
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            size += chunk.len() as u64;
            if size > package.size {
                return Err(wrong());
            }
            digest.update(&chunk);
            file.write_all(&chunk).await.map_err(written)?;
        }
        file.flush().await.map_err(written)?;
        file.sync_all().await.map_err(written)?;
        match hex::encode(digest.finalize()) == package.sha256 {
            true => Ok(()),
            false => Err(wrong()),
        }
    }

    async fn offer_to(&self, other: &OtherServer, package: &Package) {
        let call = self.call(other, Method::POST, &path(&package.sha256));
        let answer = call.timeout(OFFER_PATIENCE).send().await;
        let taken = answer.map_err(|error| error.to_string());
        if let Err(error) = taken.and_then(|answer| checked(other, answer)) {
            let name = package.name.file_name();
            tracing::warn!(
                server = other.id,
                name,
                error,
                "a server has not taken a package yet; it will try by itself"
            );
        }
    }
}

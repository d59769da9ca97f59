//! The API of a server with a whole fleet, while requests arrive at a fixed rate.
//!
//! A request is due at a moment of its own, whatever became of those before it, and its time counts from that moment: a
//! server that falls behind shows it. Each is signed with an access key. The load is made on the same cores.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use obfleet_client::{Client, Credentials};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Setting;
use super::process::ServerProcess;
use crate::figure::Reading;
use crate::fleet::{Cluster, Fleet};
use crate::sample::Sample;

/// Connections that are open all the time; one of them sends upgrades.
const CONNECTIONS: usize = 64;
/// Reads in a second, half of them lists of clusters and half of them one cluster with its proxies.
const READS: u32 = 200;
/// How many upgrades of a few proxies are asked for, one a second, while reads go on.
const UPGRADES: usize = 30;
/// Proxies of each of them.
const FEW: usize = 3;
/// How many upgrades of many proxies, after that.
const LARGE_UPGRADES: usize = 5;
/// Proxies of each of them.
const MANY: usize = 100;
/// How long reads are then made as fast as they are answered.
const SATURATED: Duration = Duration::from_secs(10);
/// Clusters on a page of the list.
const PAGE: &str = "10";
const PASSWORD: &str = "Correct-Horse-1";

/// How large a fleet is, and what its figures are called.
pub struct Scale {
    /// Clusters that can be asked for [`MANY`] proxies at once, of 104 each.
    large: usize,
    /// Clusters of 10 or 11.
    small: usize,
    /// Proxies of all of them together.
    proxies: usize,
    /// List, one cluster, upgrade of a few and of many, requests in a second, and memory.
    pub figures: [&'static str; 6],
}

/// 1,000 proxies in 50 clusters.
pub const SMALL: Scale = Scale {
    large: 5,
    small: 45,
    proxies: 1_000,
    figures: [
        "api_list_p99",
        "api_detail_p99",
        "api_upgrade3_p99",
        "api_upgrade100_p99",
        "api_requests_per_s",
        "rss_1000_mb",
    ],
};

/// 10,000 proxies in 500 clusters of the same sizes.
pub const LARGE: Scale = Scale {
    large: 50,
    small: 450,
    proxies: 10_000,
    figures: [
        "api_list_p99_10000",
        "api_detail_p99_10000",
        "api_upgrade3_p99_10000",
        "api_upgrade100_p99_10000",
        "api_requests_per_s_10000",
        "rss_10000_mb",
    ],
};

impl Scale {
    /// Proxies of each cluster.
    fn sizes(&self) -> Vec<usize> {
        let large = crate::fleet::HOSTS;
        let rest = self.proxies - self.large * large;
        let small = (0..self.small).map(|index| rest / self.small + usize::from(index < rest % self.small));
        std::iter::repeat_n(large, self.large).chain(small).collect()
    }
}

/// All figures of a fleet of this size.
pub async fn under_load(setting: &Setting, scale: &Scale) -> Result<Vec<Reading>> {
    let place = setting.place().await?;
    let password_file = place.dir().join("password");
    std::fs::write(&password_file, PASSWORD)?;
    let server = ServerProcess::start_with(
        &setting.obfleet,
        &place.dir().join("server"),
        "off",
        &place.dir().join("log"),
        &[OsStr::new("--admin-password-file"), password_file.as_os_str()],
    )?;
    let key = access_key(&server.url()).await?;
    let client = || Client::new(&server.url(), None, key.clone(), "en");
    let fleet = Fleet::build(&client()?, place.dir(), &scale.sizes()).await?;
    let (large, small) = fleet.clusters.split_at(scale.large);
    let readers = (1..CONNECTIONS).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
    let writer = client()?;
    let paths: Arc<[String]> = fleet.clusters.iter().map(path_of).collect();

    let few: Vec<_> = small
        .iter()
        .take(UPGRADES)
        .map(|cluster| upgrade(cluster, FEW))
        .collect();
    let reads = Reads::begin(&readers, &paths, Pace::PerSecond(READS));
    let few = upgrades(&writer, &few).await?;
    let (lists, details, _) = reads.end().await?;

    let many: Vec<_> = large
        .iter()
        .take(LARGE_UPGRADES)
        .map(|cluster| upgrade(cluster, MANY))
        .collect();
    let reads = Reads::begin(&readers, &paths, Pace::PerSecond(READS));
    let many = upgrades(&writer, &many).await?;
    reads.end().await?;

    let reads = Reads::begin(&readers, &paths, Pace::AsFastAsAnswered);
    tokio::time::sleep(SATURATED).await;
    let (.., per_second) = reads.end().await?;
    let rss = server.rss_mib()?;
    server.stop()?;

    let [list, detail, upgrade3, upgrade100, requests, memory] = scale.figures;
    Ok(vec![
        Reading::new(list, lists.p99(), "ms"),
        Reading::new(detail, details.p99(), "ms"),
        Reading::new(upgrade3, few.p99(), "ms"),
        Reading::new(upgrade100, many.p99(), "ms"),
        Reading::new(requests, per_second, "1/s"),
        Reading::new(memory, rss, "MiB"),
    ])
}

/// A new key of the administrator's.
async fn access_key(url: &str) -> Result<Credentials> {
    let admin = Credentials::Password {
        user: "admin".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let client = Client::new(url, None, admin, "en")?;
    let nothing = json!({});
    let made = client.call(Method::POST, "/api/v2/iam/accessKeys", &[], Some(&nothing));
    let made = made.await?;
    let text = |name: &str| made[name].as_str().map(str::to_owned).context("there is no access key");
    Ok(Credentials::Key {
        access_key: text("accessKey")?,
        secret_key: text("secretKey")?,
    })
}

fn path_of(cluster: &Cluster) -> String {
    format!("/api/v2/obproxy/clusters/{}", cluster.id)
}

/// The path by which so many proxies of a cluster are upgraded.
fn upgrade(cluster: &Cluster, count: usize) -> String {
    let ids: Vec<_> = cluster.proxies.iter().take(count).map(i64::to_string).collect();
    format!("{}/obproxies/{}/upgrade", path_of(cluster), ids.join(","))
}

/// Asks for one of them each second.
async fn upgrades(client: &Client, paths: &[String]) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut due = Instant::now();
    for path in paths {
        due += Duration::from_secs(1);
        sleep_until(due).await;
        client.call(Method::POST, path, &[], Some(&json!({}))).await?;
        sample.push(due.elapsed());
    }
    Ok(sample)
}

/// When reads are made.
#[derive(Clone, Copy)]
enum Pace {
    PerSecond(u32),
    AsFastAsAnswered,
}

/// Reads that go on until they are ended.
struct Reads {
    begun: Instant,
    readers: JoinSet<Result<(Sample, Sample)>>,
    ended: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
}

impl Reads {
    /// Each client has a connection of its own, and takes the next read that is due when it has its answer.
    fn begin(clients: &[Client], paths: &Arc<[String]>, pace: Pace) -> Self {
        let begun = Instant::now();
        let ended = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let mut readers = JoinSet::new();
        for client in clients {
            let client = client.clone();
            let (paths, ended, count) = (Arc::clone(paths), Arc::clone(&ended), Arc::clone(&count));
            readers.spawn(async move {
                let (mut lists, mut details) = (Sample::default(), Sample::default());
                while !ended.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let due = match pace {
                        Pace::PerSecond(rate) => begun + Duration::from_secs(1) * u32::try_from(number)? / rate,
                        Pace::AsFastAsAnswered => Instant::now(),
                    };
                    sleep_until(due).await;
                    // Answers are read over: to make something of them would take the server's time, on the same cores.
                    let has_data = match number % 2 {
                        0 => client.read_over("/api/v2/obproxy/clusters", &[("page", "1"), ("size", PAGE)]),
                        _ => client.read_over(&paths[number / 2 % paths.len()], &[]),
                    };
                    ensure!(has_data.await?, "a read was answered with nothing");
                    match number % 2 {
                        0 => lists.push(due.elapsed()),
                        _ => details.push(due.elapsed()),
                    }
                }
                Ok((lists, details))
            });
        }
        Self {
            begun,
            readers,
            ended,
            count,
        }
    }

    /// Times of lists and of single clusters, and how many were answered in a second.
    async fn end(mut self) -> Result<(Sample, Sample, f64)> {
        let per_second = self.count.load(Ordering::Relaxed) as f64 / self.begun.elapsed().as_secs_f64();
        self.ended.store(true, Ordering::Relaxed);
        let (mut lists, mut details) = (Sample::default(), Sample::default());
        while let Some(reader) = self.readers.join_next().await {
            let (of_lists, of_details) = reader??;
            lists.extend(of_lists);
            details.extend(of_details);
        }
        Ok((lists, details, per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_are_as_large_as_they_are_called() {
        for scale in [SMALL, LARGE] {
            let sizes = scale.sizes();
            assert_eq!(sizes.iter().sum::<usize>(), scale.proxies);
            assert_eq!(sizes.len(), scale.large + scale.small);
            assert!(sizes[..LARGE_UPGRADES].iter().all(|&size| size >= MANY));
            assert!(sizes.iter().all(|&size| size >= FEW));
        }
    }
}

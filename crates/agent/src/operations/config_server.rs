//! What a proxy has from its config server, and having it ask again.

use std::{collections::BTreeSet, time::Duration};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    config_items,
};
use obfleet_wire::agent::{ConfigFacts, Outcome};
use tokio::time::{Instant, sleep};

use super::{Node, OperationError, lifecycle::admin};
use crate::runner::Job;

/// Setting this has the proxy fetch its whole configuration; the proxy sets it back when it has it.
const ASK_CONFIG: &str = "refresh_json_config";
/// The same for the root servers of the clusters it has been asked for.
const ASK_ROOT_SERVERS: &str = "refresh_rslist";
/// How often it asks by itself. Whatever is set begins this time anew, and what is asked for happens at its end.
const INTERVAL: &str = "config_server_refresh_interval";
const URL: &str = "obproxy_config_server_url";
/// What a proxy calls the cluster of the metadb; it is none of the clients'.
const META_CLUSTER: &str = "MetaDataBase";
/// Between two looks.
const POLL: Duration = Duration::from_millis(100);
/// Bounds of the time a proxy is given.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(300));

/// What a proxy is to have.
pub(super) struct Wanted {
    pub(super) version: String,
    pub(super) clusters: Vec<String>,
    /// Whether it asks for the root servers as well.
    pub(super) root_servers: bool,
}

impl Wanted {
    fn is(&self, facts: &ConfigFacts) -> bool {
        let names = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
        facts.version.as_ref() == Some(&self.version) && names(&facts.clusters) == names(&self.clusters)
    }
}

impl Node {
    pub(super) async fn inspect_config(&self, proxy_id: i64) -> Result<Outcome, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        let mut conn = self.login(&owned).await?;
        let facts = read(&mut conn).await.map_err(admin(proxy_id, "show proxycluster"))?;
        conn.close().await;
        Ok(Outcome::Config(facts))
    }

    /// Waits until the proxy has what is wanted, having it ask unless it has.
    pub(super) async fn refresh_config(
        &self,
        proxy_id: i64,
        wanted: &Wanted,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let mut conn = self.login(&owned).await?;
        let mut facts = read(&mut conn).await.map_err(admin(proxy_id, "show proxycluster"))?;
        if wanted.is(&facts) && !wanted.root_servers {
            job.say("it has that configuration already");
            conn.close().await;
            return Ok(Outcome::Config(facts));
        }
        let interval = conn
            .config_value(INTERVAL)
            .await
            .map_err(admin(proxy_id, "show proxyconfig"))?;
        let limit = patience(interval.as_deref());
        let deadline = Instant::now() + limit;
        let mut asked = Asked {
            root_servers: !wanted.root_servers,
        };
        loop {
            let done = asked
                .step(&mut conn, wanted, &facts)
                .await
                .map_err(admin(proxy_id, "asking the config server"))?;
            if done {
                conn.close().await;
                return Ok(Outcome::Config(facts));
            }
            if job.is_superseded() {
                return Err(OperationError::Superseded("waited for the proxy's configuration"));
            }
            if Instant::now() >= deadline {
                let url = conn.config_value(URL).await.ok().flatten().unwrap_or_default();
                return Err(OperationError::NoConfig {
                    proxy_id,
                    seconds: limit.as_secs(),
                    url,
                    wanted: wanted.version.clone(),
                    has: facts.version.unwrap_or_else(|| "none".to_owned()),
                    interval: interval.unwrap_or_default(),
                });
            }
            sleep(POLL).await;
            facts = read(&mut conn).await.map_err(admin(proxy_id, "show proxycluster"))?;
        }
    }
}

/// Whether the root servers have been asked for once what they belong to was there; those that are not wanted have.
struct Asked {
    root_servers: bool,
}

impl Asked {
    /// Has the proxy ask for what it lacks, unless it is about to; true when it lacks nothing. Setting an item again would
    /// put the asking off.
    async fn step(&mut self, conn: &mut AdminConn, wanted: &Wanted, facts: &ConfigFacts) -> Result<bool, AdminError> {
        if !wanted.is(facts) {
            if !is_on(conn, ASK_CONFIG).await? {
                conn.set_config(ASK_CONFIG, "True").await?;
            }
            return Ok(false);
        }
        if !self.root_servers {
            conn.set_config(ASK_ROOT_SERVERS, "True").await?;
            self.root_servers = true;
            return Ok(false);
        }
        Ok(!wanted.root_servers || !is_on(conn, ASK_ROOT_SERVERS).await?)
    }
}

async fn is_on(conn: &mut AdminConn, item: &str) -> Result<bool, AdminError> {
    let value = conn.config_value(item).await?;
    Ok(value.as_deref().and_then(config_items::parse_bool).unwrap_or_default())
}

/// Twice the longest time until it asks by itself, and some.
fn patience(interval: Option<&str>) -> Duration {
    let micros = interval.and_then(config_items::parse_micros);
    let interval = Duration::from_micros(micros.and_then(|micros| u64::try_from(micros).ok()).unwrap_or_default());
    (interval.saturating_mul(2) + Duration::from_secs(10)).clamp(PATIENCE.0, PATIENCE.1)
}

async fn read(conn: &mut AdminConn) -> Result<ConfigFacts, AdminError> {
    let version = conn.config_version().await?;
    let mut clusters = conn.ob_clusters().await?;
    clusters.retain(|name| name != META_CLUSTER);
    Ok(ConfigFacts { version, clusters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_clusters_does_not_matter() {
        let wanted = Wanted {
            version: "v".into(),
            clusters: vec!["a".into(), "b".into()],
            root_servers: false,
        };
        let facts = |version: Option<&str>, clusters: &[&str]| ConfigFacts {
            version: version.map(str::to_owned),
            clusters: clusters.iter().map(ToString::to_string).collect(),
        };
        assert!(wanted.is(&facts(Some("v"), &["b", "a"])));
        for other in [
            facts(None, &["b", "a"]),
            facts(Some("w"), &["b", "a"]),
            facts(Some("v"), &["a"]),
        ] {
            assert!(!wanted.is(&other), "{other:?}");
        }
    }

    #[test]
    fn who_asks_seldom_is_given_longer() {
        assert_eq!(patience(Some("10s")), Duration::from_secs(30));
        assert_eq!(patience(Some("1d")), Duration::from_secs(300));
        assert_eq!(patience(None), Duration::from_secs(20));
    }
}

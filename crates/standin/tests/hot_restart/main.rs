//! The hot restart between real processes: good children, bad children, and the drain.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "../common/proxy.rs"]
mod proxy;

mod bad_child;
mod drain;
mod takeover;

use obfleet_mysqlwire::Client;
use proxy::ProxyHome;

const RESTART: &str = "alter proxyconfig set proxy_local_cmd = 2";

/// A started proxy, its pid, and an open session of an administrator on it.
async fn started(items: &str) -> (ProxyHome, i32, Client) {
    let home = ProxyHome::new();
    home.start(items).await;
    let pid = home.pids()[0];
    let keeper = home.admin().await;
    (home, pid, keeper)
}

async fn process_of(admin: &mut Client) -> i32 {
    admin
        .query("show processlist")
        .await
        .unwrap()
        .text(0, "pid")
        .unwrap()
        .parse()
        .unwrap()
}

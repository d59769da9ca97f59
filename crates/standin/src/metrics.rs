//! The metrics port: `GET /metrics` with the few series a stand-in has.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::listen::{ACCEPT_RETRY, bind};
use crate::proxy::Proxy;

/// The exporter, ended when this is closed.
#[derive(Debug)]
pub struct Exporter {
    task: JoinHandle<()>,
}

impl Exporter {
    /// Listens on every address, whatever `local_bound_ip` and `enable_prometheus` say.
    pub fn start(proxy: &Arc<Proxy>) -> io::Result<Self> {
        let port = proxy.config().port("prometheus_listen_port");
        let listener = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        let proxy = Arc::clone(proxy);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer(stream, series(&proxy)))),
                    Err(_) => sleep(ACCEPT_RETRY).await,
                }
            }
        });
        Ok(Self { task })
    }

    /// Closes the port; when this returns, another process can bind it.
    pub async fn close(self) {
        self.task.abort();
        // The only outcome is the cancellation just asked for.
        let _ = self.task.await;
    }
}

async fn answer(mut stream: TcpStream, body: String) -> io::Result<()> {
    let mut request = [0; 1024];
    let read = stream.read(&mut request).await?;
    let status = if request[..read].starts_with(b"GET /metrics") {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = if status.starts_with("200") { body.as_str() } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n",
        body.len()
    );
    stream
        .write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
        .await
}

fn series(proxy: &Proxy) -> String {
    let sessions = &proxy.sessions;
    let server_sessions: u32 = sessions
        .list()
        .iter()
        .map(|session| session.activity().server_sessions)
        .sum();
    format!(
        "# TYPE odp_current_session gauge\n\
         odp_current_session{{sessionType=\"client\"}} {}\n\
         odp_current_session{{sessionType=\"server\"}} {server_sessions}\n\
         # TYPE odp_new_client_connections counter\n\
         odp_new_client_connections{{connectionResult=\"success\"}} {}\n\
         # TYPE odp_transaction_total counter\n\
         odp_transaction_total {}\n",
        sessions.count(),
        sessions.total(),
        sessions.transactions(),
    )
}

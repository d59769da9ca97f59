//! How a server is told to stop: the first SIGTERM or SIGINT lets it drain, the second ends it at once.

use std::{io, process};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// What a server exits with that was not allowed to finish.
const CUT_SHORT: i32 = 1;

/// Ready at the first signal. The second one ends the process: every step is durable, and the next start goes on as after
/// a crash.
pub fn of_server() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (tell, told) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            match tell.take() {
                // Nobody listens any more when the server has ended by itself.
                Some(tell) => drop(tell.send(())),
                None => {
                    eprintln!("obfleet: told to stop a second time, so nothing is waited for");
                    process::exit(CUT_SHORT);
                }
            }
        }
    });
    Ok(async move {
        // The sender lives as long as the loop above.
        let _: Result<(), _> = told.await;
    })
}

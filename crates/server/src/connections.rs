//! How many connections one network may have open at a time.
//!
//! Each takes a file and some memory, whatever is said on it: whoever opens them without end must not use up what the
//! others need.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum_server::accept::Accept;
use tokio::net::TcpStream;
use tower::Service;

use crate::address::network;

/// Accepts connections as another acceptor does, but for those of networks that have enough.
#[derive(Debug, Clone)]
pub struct PerNetwork<A> {
    acceptor: A,
    places: Places,
}

/// Open connections by network.
#[derive(Debug, Clone)]
pub struct Places {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection of a network; it is open for as long as this lives.
#[derive(Debug)]
struct Place {
    network: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    /// So many for each network; 0 for any number.
    pub fn new(most: u32) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            open: Arc::default(),
        }
    }

    /// One more, if the network has not got all of its own.
    fn take(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut open = locked(&self.open);
        let count = open.entry(network).or_default();
        if self.most != 0 && *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            network,
            open: Arc::clone(&self.open),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

fn locked(open: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A> PerNetwork<A> {
    /// Connections that `acceptor` takes, as far as there are places for them.
    pub fn new(acceptor: A, places: Places) -> Self {
        Self { acceptor, places }
    }
}

impl<A, S> Accept<TcpStream, S> for PerNetwork<A>
where
    A: Accept<TcpStream, Held<S>, Future: Send + 'static>,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream.peer_addr().map(|peer| (peer, self.places.take(peer.ip())));
        match place {
            Ok((_, Some(place))) => {
                let service = Held {
                    service,
                    _place: Arc::new(place),
                };
                Box::pin(self.acceptor.accept(stream, service))
            }
            // The stream is closed here, before anything was read or written.
            Ok((peer, None)) => {
                tracing::debug!(%peer, "a connection was closed: its network has as many as it may have");
                Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
            }
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

/// What a connection's requests go to; with it goes the connection's place.
#[derive(Debug, Clone)]
pub struct Held<S> {
    service: S,
    _place: Arc<Place>,
}

impl<R, S: Service<R>> Service<R> for Held<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_places_and_no_other_networks() {
        let places = Places::new(2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let first = take("10.0.0.1").unwrap();
        let second = take("::ffff:10.0.0.1").unwrap();
        assert!(take("10.0.0.1").is_none());
        let _other = take("10.0.0.2").unwrap();
        // Who has an address of version 6 has all of its network.
        let _third = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap());
        assert!(take("2001:db8::3").is_none());
        drop(first);
        let _again = take("10.0.0.1").unwrap();
        assert!(take("10.0.0.1").is_none());
        drop(second);
        assert!(take("10.0.0.1").is_some());
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let places = Places::new(1);
        drop(places.take("10.0.0.1".parse().unwrap()));
        assert!(locked(&places.open).is_empty());
    }

    #[test]
    fn none_is_any_number() {
        let places = Places::new(0);
        let address = "10.0.0.1".parse().unwrap();
        let many: Vec<_> = (0..1000).map_while(|_| places.take(address)).collect();
        assert_eq!(many.len(), 1000);
    }
}

//! Addresses of names, asked of the system, which takes a thread for each and can't be told to stop.
//!
//! A tenant whose names nobody answers holds a few threads for as long as the system tries, and no more.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Names of one tenant that are looked up at once.
const OF_ONE: usize = 8;

/// Places for one tenant's names.
#[derive(Clone)]
pub(crate) struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OF_ONE)))
    }
}

impl Lookups {
    /// The addresses of a name. Who waits no longer leaves the place to the system, which gives it back when it is done.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = name.to_owned();
        let found = self.within(move || (name, 0).to_socket_addrs()).await?;
        Ok(found.map(|found: SocketAddr| found.ip()).collect())
    }

    async fn within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let place = self.0.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        working.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };
    use tokio::time::timeout;

    /// T40: a tenant's names that nobody answers take few threads, however often it asks, and none of another's.
    #[tokio::test]
    async fn t40_names_that_nobody_answers_take_few_threads() {
        let (one, other) = (Lookups::default(), Lookups::default());
        let begun = Arc::new(AtomicUsize::new(0));
        let mut answers = vec![];
        for _ in 0..5 * OF_ONE {
            let (answer, asked) = mpsc::channel::<()>();
            answers.push(answer);
            let begun = begun.clone();
            let looking = one.within(move || {
                begun.fetch_add(1, Ordering::Relaxed);
                Ok(asked.recv().is_ok())
            });
            // Nobody waits for long.
            let waited = timeout(Duration::from_millis(2), looking).await;
            assert!(waited.is_err());
        }
        assert!(begun.load(Ordering::Relaxed) <= OF_ONE);
        let found = other.addresses("127.0.0.1").await.unwrap();
        assert_eq!(found, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        // When the system is done the places are there again.
        drop(answers);
        let found = timeout(Duration::from_secs(60), one.addresses("127.0.0.1")).await;
        assert_eq!(found.unwrap().unwrap().len(), 1);
    }
}

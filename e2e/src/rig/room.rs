//! Fills an API server's etcd, as somebody does who stores more than there is room for; [`Server::make_room`] is what an
//! operator does afterwards.
//!
//! [`Server::make_room`]: super::server::Server::make_room

use crate::{kind::CONTROLLER_REVISION, side::Side};
use serde_json::json;

/// Where what fills it lies.
const NAMESPACE: &str = "default";
/// More objects than fit into any etcd of a test.
const MOST: usize = 400;

/// What fills an etcd.
pub struct Ballast {
    side: Side,
    names: Vec<String>,
}

impl Ballast {
    /// Stores large objects until etcd takes nothing more.
    ///
    /// # Errors
    /// A request fails for another reason, or etcd takes them all.
    pub async fn fill(side: &Side) -> anyhow::Result<Self> {
        let mut names = vec![];
        for number in 0..MOST {
            let name = format!("large{number}");
            // Random, so that it takes what it says however it is stored.
            let noise: Vec<u32> = (0..60_000).map(|_| rand::random()).collect();
            let revision = json!({
                "metadata": {"name": name, "namespace": NAMESPACE}, "revision": 1, "data": {"noise": noise},
            });
            match side.create(CONTROLLER_REVISION, revision).await {
                Ok(_) => names.push(name),
                Err(problem) if problem.message.contains("space exceeded") => {
                    let side = side.clone();
                    return Ok(Self { side, names });
                }
                Err(problem) => return Err(problem.into()),
            }
        }
        anyhow::bail!("etcd took {MOST} of them")
    }

    /// Deletes all of it.
    ///
    /// # Errors
    /// A request fails.
    pub async fn delete(self) -> anyhow::Result<()> {
        for name in &self.names {
            self.side
                .delete(CONTROLLER_REVISION, NAMESPACE, name)
                .await?;
        }
        Ok(())
    }
}

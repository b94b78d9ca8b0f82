//! Reads of one object as it is now, by which everything is decided that can't be taken back.

use crate::{apply::Failure, client::Cluster, error::Error};
use tenancy::object::Object;

/// Reads one object live.
pub(crate) async fn read(cluster: &Cluster, path: &str) -> Result<Option<Object>, Failure> {
    let Some(value) = cluster.find(path).await? else {
        return Ok(None);
    };
    Object::from_value(value)
        .map(Some)
        .map_err(|err| Failure::Api(Error::Malformed(err.to_string())))
}

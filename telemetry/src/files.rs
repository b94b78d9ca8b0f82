//! How many files a daemon may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit, 1,024 on most systems, to the hard one: connections are files, and a daemon that serves hundreds
/// of tenants has more.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(limit = ?limit.current, "so many files may be open"),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it was; each connection needs one");
        }
    }
}

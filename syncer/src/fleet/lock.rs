//! A proof that an earlier process on this machine has ended: the kernel gives its lock to another only then.
//!
//! A syncer that is killed and started again at once needn't wait until its own old Lease has run out. The lock's file
//! holds a random mark that the Lease repeats; who holds the lock of the same mark knows that the Lease's process is gone.
//! A process that is stopped and not ended keeps its lock.

use data_encoding::BASE32_NOPAD;
use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
};

/// Name of the file in the folder that the flag names. The folder must be one of this machine, not a network's.
const FILE: &str = "syncer.lock";

/// A lock that is held until this process ends.
pub(crate) struct Lock {
    _file: File,
    mark: String,
}

impl Lock {
    /// Takes the lock; nothing if another process holds it.
    pub(crate) fn take(folder: &Path) -> io::Result<Option<Self>> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join(FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(err)) => return Err(err),
        }
        let mut mark = String::new();
        file.read_to_string(&mut mark)?;
        if mark.is_empty() {
            mark = random::<16>()?;
            file.rewind()?;
            file.write_all(mark.as_bytes())?;
        }
        Ok(Some(Self { _file: file, mark }))
    }

    /// What Leases of processes that held the same lock say.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }
}

/// So many random bytes, as lower-case base32.
pub(crate) fn random<const N: usize>() -> io::Result<String> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_it_and_all_know_it_by_its_mark() {
        let folder = std::env::temp_dir().join(format!("sublet-lock-{}", random::<8>().unwrap()));
        std::fs::create_dir(&folder).unwrap();
        let first = Lock::take(&folder).unwrap().unwrap();
        assert!(Lock::take(&folder).unwrap().is_none());
        let mark = first.mark().to_owned();
        drop(first);
        assert_eq!(Lock::take(&folder).unwrap().unwrap().mark(), mark);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

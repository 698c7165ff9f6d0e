//! How much room a disk has, for those who have to leave some of it.

use rustix::fs::statvfs;
use std::{io, path::Path};

/// What an unprivileged process may still write to the disk of this folder, in bytes.
///
/// # Errors
/// When its file system doesn't tell.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

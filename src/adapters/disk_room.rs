//! How much room a disk has, for those who have to leave some of it; and whether it is one.

use rustix::fs::{statfs, statvfs};
use std::{io, path::Path};

/// What an unprivileged process may still write to the disk of this folder, in bytes.
///
/// # Errors
/// When its file system doesn't tell.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// `f_type` of tmpfs and of ramfs (statfs(2)).
const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether the file system of this folder is gone with the power.
///
/// # Errors
/// When it doesn't tell what it is.
pub fn is_in_memory(folder: &Path) -> io::Result<bool> {
    Ok(IN_MEMORY.contains(&i128::from(statfs(folder)?.f_type)))
}

//! The times of Tor's consensus, by which the wall clock is judged, and whether they are news.
//!
//! arti begins with the consensus in its cache if that looks timely by the wall clock. On a board whose clock stood still while it was
//! off it always does, so it must not vouch for that clock. Hence before arti begins the newest consensus in the cache is looked up
//! ([`newest_in_cache`]); what begins later than that one was fetched by this process.
//!
//! arti keeps its consensuses as text in files named `con_*`, in `dir_blobs` in its cache folder. Should a version of arti keep
//! them elsewhere, a test on the private Tor network fails (`tests/it/arti.rs`).

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use tidegate_schemas::clock::ConsensusTimes;
use tor_netdir::{NetDirProvider, Timeliness};

/// Where arti keeps documents, in its cache folder.
const BLOBS: &str = "dir_blobs";
/// How the name of a consensus begins there.
const NAME: &str = "con_";
/// Where its times stand: within its first so many bytes.
const HEAD_BYTES: u64 = 2_048;

/// When the newest consensus in this cache folder begins; absent where there is none. Blocks.
pub(super) fn newest_in_cache(cache: &Path) -> io::Result<Option<Timestamp>> {
    let files = match fs::read_dir(cache.join(BLOBS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        files => files?,
    };
    let mut newest = None;
    for file in files {
        let file = file?;
        if file.file_name().as_encoded_bytes().starts_with(NAME.as_bytes()) {
            let mut head = Vec::new();
            File::open(file.path())?.take(HEAD_BYTES).read_to_end(&mut head)?;
            newest = newest.max(valid_after(&String::from_utf8_lossy(&head)));
        }
    }
    Ok(newest)
}

/// The line `valid-after 2026-11-23 12:00:00`.
fn valid_after(head: &str) -> Option<Timestamp> {
    let time: DateTime = head.lines().find_map(|line| line.strip_prefix("valid-after "))?.trim().parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The times of the consensus that is in use, however old it is.
pub(super) fn times(directory: &dyn NetDirProvider, cached: Option<Timestamp>) -> Option<ConsensusTimes> {
    let directory = directory.netdir(Timeliness::Unchecked).ok()?;
    let lifetime = directory.lifetime();
    let valid_after = Timestamp::try_from(lifetime.valid_after()).ok()?;
    let valid_until = Timestamp::try_from(lifetime.valid_until()).ok()?;
    Some(ConsensusTimes { valid_after, valid_until, fetched: cached.is_none_or(|cached| valid_after > cached) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_newest_consensus_of_a_cache_is_found_by_its_own_words() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(newest_in_cache(cache.path()).unwrap(), None, "no cache yet");
        let blobs = cache.path().join(BLOBS);
        fs::create_dir(&blobs).unwrap();
        let consensus = |time: &str| format!("network-status-version 3 microdesc\nvalid-after {time}\nfresh-until x\n");
        for (name, text) in [
            ("con_microdesc_sha3-256-a", consensus("2026-11-23 12:00:00")),
            ("con_microdesc_sha3-256-b", consensus("2026-11-23 13:00:00")),
            ("con_microdesc_sha3-256-c", "torn".to_owned()),
            ("diff_a_b", consensus("2027-01-01 00:00:00")),
        ] {
            fs::write(blobs.join(name), text).unwrap();
        }
        assert_eq!(newest_in_cache(cache.path()).unwrap(), "2026-11-23T13:00:00Z".parse().ok());
    }
}

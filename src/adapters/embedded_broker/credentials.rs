//! Who may connect: a file of lines `NAME:SHA256`, the hash in lower-case hex of the secret's bytes. Blank lines and lines that
//! begin with `#` are skipped. Secrets are made by `tidegate device add` from 32 random characters, so a plain hash serves: there
//! is no dictionary of them.

use sha2::{Digest as _, Sha256};
use std::{io, path::Path};
use subtle::ConstantTimeEq as _;

/// Largest credentials file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file's text. Read for each client that connects, so that an added device needs no restart and a removed one is out.
pub(super) async fn read(file: &Path) -> io::Result<String> {
    if tokio::fs::metadata(file).await?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    tokio::fs::read_to_string(file).await
}

/// Whether one of the lines has this name and this secret.
pub(super) fn admits(lines: &str, name: &str, secret: &str) -> bool {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(secret));
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(':'))
        .any(|(known, wanted)| known == name && bool::from(wanted.as_bytes().ct_eq(hash.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_secret_must_both_fit() {
        // printf %s secret | sha256sum
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let lines = format!("# devices\n\npacemaker:{hash}\n other : x\n#gone:{hash}\n");
        assert!(admits(&lines, "pacemaker", "secret"));
        assert!(!admits(&lines, "pacemaker", "Secret"));
        assert!(!admits(&lines, "other", "secret"));
        assert!(!admits(&lines, "gone", "secret") && !admits(&lines, "#gone", "secret"));
        assert!(!admits(&lines, "", "") && !admits("", "pacemaker", "secret"));
        assert!(!admits("pacemaker:", "pacemaker", ""));
    }
}

//! The admin endpoint's bearer tokens: the gateway's own, 256 random bits, made on first start, readable by the gateway's user alone; and
//! named ones with a scope (`tidegate token add`), of which hashes alone are kept.

use crate::reread::{self, Reread, RereadError};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq as _;
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::{
    audit::Scope,
    config::{
        devices::hash_secret,
        tokens::{NamedToken, TOKENS_FILE, Tokens},
    },
};

/// Name of the token's file in the state folder.
pub const TOKEN_FILE: &str = "admin.token";
/// Bytes of a token, before their text.
pub const TOKEN_BYTES: usize = 32;
/// Longest token file that is read, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 256;

/// The token. `Debug` doesn't show it.
#[derive(Clone)]
pub struct AdminToken(String);

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[admin token]")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or written.
    #[error("could not use the admin token {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the admin token {} can be read by other users: run `chmod 600` on it, or delete it to get a new one", .0.display())]
    Open(PathBuf),
    /// Not a token.
    #[error("{} holds no admin token: delete it to get a new one at the next start", .0.display())]
    Malformed(PathBuf),
}

impl AdminToken {
    /// The token in this folder; made if there is none.
    ///
    /// # Errors
    /// When the file can't be read or written, is open to others, or holds something else.
    pub fn open_or_create(state_dir: &Path, entropy: &dyn Entropy) -> Result<Self, TokenError> {
        let path = state_dir.join(TOKEN_FILE);
        let mut bytes = [0_u8; TOKEN_BYTES];
        entropy.fill(&mut bytes);
        let text = data_encoding::BASE64URL_NOPAD.encode(&bytes);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let written = file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|source| TokenError::Io { path, source })?;
                Ok(Self(text))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(&path),
            Err(source) => Err(TokenError::Io { path, source }),
        }
    }

    /// The token in this file.
    ///
    /// # Errors
    /// When the file can't be read, is open to others, or holds something else.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(TokenError::Open(path.to_owned()));
        }
        let mut text = String::new();
        file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let text = text.trim().to_owned();
        let is_token = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).is_ok_and(|b| b.len() == TOKEN_BYTES);
        if is_token { Ok(Self(text)) } else { Err(TokenError::Malformed(path.to_owned())) }
    }

    /// The token's text, for the one who presents it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this text is the token; the time that it takes depends on the length of the text alone.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name of the token.
    pub name: String,
    /// How much it allows.
    pub scope: Scope,
}

/// Reads a file of named tokens; one that does not exist has none.
///
/// # Errors
/// When it can't be read or understood.
pub fn read_tokens(path: &Path) -> Result<Tokens, RereadError> {
    reread::read(path, Tokens::parse)
}

/// All tokens that are known now.
pub(super) struct KnownTokens {
    own: AdminToken,
    named: Reread<Tokens>,
}

impl KnownTokens {
    /// The gateway's own, and those that are named in its state folder.
    ///
    /// # Errors
    /// When their file can't be read or understood.
    pub fn open(own: AdminToken, state_dir: &Path) -> Result<Self, RereadError> {
        Ok(Self { own, named: Reread::open(state_dir.join(TOKENS_FILE), read_tokens)? })
    }

    /// Whose token this text is. All are compared, each in constant time.
    pub fn who(&self, presented: &str) -> Option<Who> {
        if self.own.matches(presented) {
            return Some(Self::own());
        }
        let hash = hash_secret(presented)?;
        let named = self.named.now();
        let equal = |token: &&NamedToken| bool::from(token.token_sha256.ct_eq(&hash));
        let found = named.iter().filter(equal).last()?;
        Some(Who { name: found.name.to_string(), scope: found.scope })
    }

    /// Whether a token of this name still allows as much: who logged in with it is out when it is taken away.
    pub fn stands(&self, who: &Who) -> bool {
        let same = |token: &NamedToken| token.name.to_string() == who.name && token.scope == who.scope;
        *who == Self::own() || self.named.now().iter().any(same)
    }

    fn own() -> Who {
        Who { name: "admin".to_owned(), scope: Scope::Admin }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[test]
    fn the_token_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = AdminToken::open_or_create(folder.path(), &SeededEntropy::new(1)).unwrap();
        let again = AdminToken::open_or_create(folder.path(), &SeededEntropy::new(2)).unwrap();
        assert!(first.matches(again.reveal()));
        assert_eq!(first.reveal().len(), 43);
        let mode = fs::metadata(folder.path().join(TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn no_other_text_is_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::open_or_create(folder.path(), &SeededEntropy::new(1)).unwrap();
        let cut = &token.reveal()[..42];
        for wrong in ["", "x", cut, &format!("{}x", token.reveal()), &format!("{cut}!")] {
            assert!(!token.matches(wrong));
        }
        assert_eq!(format!("{token:?}"), "[admin token]");
    }

    #[test]
    fn a_token_that_others_can_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        AdminToken::open_or_create(folder.path(), &SeededEntropy::new(1)).unwrap();
        let path = folder.path().join(TOKEN_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(AdminToken::read(&path), Err(TokenError::Open(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(AdminToken::read(&path), Err(TokenError::Malformed(_))));
    }
}

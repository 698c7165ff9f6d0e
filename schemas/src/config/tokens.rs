//! The file of named tokens, `tokens.toml` in the state folder: who else may speak to the admin endpoint, and how much each may do.
//!
//! Written by `tidegate token add NAME`, read by the endpoint when it changes. As with devices, a token is 32 random bytes in text form,
//! shown once and kept as its SHA-256 only. The gateway's own token (`admin.token`) is not in it: it is called `admin`.
//!
//! ```toml
//! version = 1
//!
//! [[token]]
//! name         = "night-shift"
//! scope        = "operate"
//! token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! ```

use crate::{audit::Scope, id::TokenName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Name of the file, in the state folder.
pub const TOKENS_FILE: &str = "tokens.toml";
/// Most named tokens.
pub const TOKENS_MAX: usize = 100;
/// The names that stand for the gateway's own token, and for the gateway itself, in the audit log.
pub const NAMES_TAKEN: [&str; 3] = ["admin", "gateway", "signal"];

/// What one token may do.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedToken {
    /// Whose it is.
    pub name: TokenName,
    /// How much it allows.
    pub scope: Scope,
    /// SHA-256 of its text. Compare in constant time.
    pub token_sha256: [u8; 32],
}
impl fmt::Debug for NamedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedToken").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// All named tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens(BTreeMap<TokenName, NamedToken>);

/// Why a file of tokens was refused. It never quotes a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokensError {
    /// Not the TOML that is expected.
    #[error("{0}")]
    Syntax(String),
    /// Another version of the format.
    #[error("version {0} of the tokens file is not known to this program, which writes version 1")]
    Version(u32),
    /// A hash that is none.
    #[error("token_sha256 of {0} is not 64 hexadecimal digits")]
    Hash(TokenName),
    /// A name twice, or one that is taken.
    #[error("the name {0} is there twice, or stands for something else")]
    Name(TokenName),
    /// More than [`TOKENS_MAX`].
    #[error("more than {TOKENS_MAX} tokens")]
    TooMany,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    version: u32,
    #[serde(default)]
    token: Vec<RawToken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: TokenName,
    scope: Scope,
    token_sha256: String,
}

impl Tokens {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When any part of it is not understood.
    pub fn parse(text: &str) -> Result<Self, ParseTokensError> {
        let raw: RawTokens =
            toml::from_str(text).map_err(|error| ParseTokensError::Syntax(error.message().to_owned()))?;
        if raw.version != 1 {
            return Err(ParseTokensError::Version(raw.version));
        }
        if raw.token.len() > TOKENS_MAX {
            return Err(ParseTokensError::TooMany);
        }
        let mut tokens = Self::default();
        for RawToken { name, scope, token_sha256 } in raw.token {
            let digest = data_encoding::HEXLOWER_PERMISSIVE.decode(token_sha256.as_bytes()).ok();
            let token_sha256 = digest.and_then(|bytes| bytes.try_into().ok());
            let token_sha256 = token_sha256.ok_or_else(|| ParseTokensError::Hash(name.clone()))?;
            let taken = NAMES_TAKEN.contains(&name.as_str());
            if tokens.put(NamedToken { name: name.clone(), scope, token_sha256 }).is_some() || taken {
                return Err(ParseTokensError::Name(name));
            }
        }
        Ok(tokens)
    }

    /// The file's text, which [`Tokens::parse`] reads back.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Written by `tidegate token add` and `remove`. The tokens themselves are kept nowhere.\nversion = 1\n",
        );
        for NamedToken { name, scope, token_sha256 } in self.0.values() {
            let hash = data_encoding::HEXLOWER.encode(token_sha256);
            // Names have no character that TOML would want escaped.
            text += &format!("\n[[token]]\nname = \"{name}\"\nscope = \"{scope}\"\ntoken_sha256 = \"{hash}\"\n");
        }
        text
    }

    /// Adds or replaces a token; the one that was there before comes back.
    pub fn put(&mut self, token: NamedToken) -> Option<NamedToken> {
        self.0.insert(token.name.clone(), token)
    }

    /// Takes a token away.
    pub fn remove(&mut self, name: &TokenName) -> Option<NamedToken> {
        self.0.remove(name)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &TokenName) -> Option<&NamedToken> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &NamedToken> {
        self.0.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_shows_no_hash() {
        let mut tokens = Tokens::default();
        for (name, scope) in [("night-shift", Scope::Operate), ("Grafana", Scope::Read), ("ops", Scope::Admin)] {
            tokens.put(NamedToken { name: name.parse().unwrap(), scope, token_sha256: [7; 32] });
        }
        assert_eq!(Tokens::parse(&tokens.to_text()), Ok(tokens.clone()));
        assert_eq!(tokens.len(), 3);
        assert!(!format!("{tokens:?}").contains('7'));
    }

    #[test]
    fn a_file_that_is_not_understood_is_refused_whole() {
        let token = |name: &str, scope: &str, hash: &str| {
            format!("version = 1\n[[token]]\nname = \"{name}\"\nscope = \"{scope}\"\ntoken_sha256 = \"{hash}\"\n")
        };
        let hash = "07".repeat(32);
        assert!(Tokens::parse(&token("a", "read", &hash)).is_ok());
        for text in [
            "version = 2".to_owned(),
            "version = 1\nmore = 1".to_owned(),
            token("a", "payload", &hash),
            token("a b", "read", &hash),
            token("admin", "read", &hash),
            token("a", "read", &hash[2..]),
            token("a", "read", &hash) + &token("a", "read", &hash)[12..],
        ] {
            assert!(Tokens::parse(&text).is_err(), "{text}");
        }
        let many: String =
            (0..=TOKENS_MAX).map(|no| token(&format!("t{no}"), "read", &hash)[12..].to_owned()).collect();
        assert_eq!(Tokens::parse(&format!("version = 1\n{many}")), Err(ParseTokensError::TooMany));
    }
}

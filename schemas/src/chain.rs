//! Chains of lines: how what happened is written as lines of files so that no line can be changed unseen, and how they are verified.
//!
//! A line is one JSON object. Its last two members are `prev`, the hash of the line before, and `hash`, its own:
//!
//! ```text
//! {"no":7,"id":"..","destination":"ward",..,"prev":"<64 hex digits>","hash":"<64 hex digits>"}
//! hash = SHA-256( "tidegate ledger line 1\n" || the line without its last member: {..,"prev":".."} )
//! ```
//! The audit log's lines are hashed behind `tidegate audit line 1` instead: no line of one chain can stand in the other.
//!
//! The hash is over bytes, not over what they mean: nothing has to be parsed or written again to check it, and a later version may
//! add members. Since a line holds the hash of the one before, a line can't be changed, removed, put in or moved without changing every
//! line after it; so whoever has noted the last hash knows of all lines up to it ([`Verifier::expecting`]).
//!
//! Numbers (`no`) rise by one. Where some can't be written any more (the store had to let them go, or can't read them), a line says so:
//! `{"no":19,"lost_from":12,..}` stands for 12 to 19. A gap that no line speaks of is a missing line.
//!
//! The chain goes on across files: they are one sequence of lines. After the oldest files were removed it starts at the `prev` of the
//! oldest line that is left.

mod verify;

pub use verify::{Verifier, Whole, Wrong};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Which chain a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chain {
    /// What became of messages ([`crate::archive`]).
    Ledger,
    /// What operators did ([`crate::audit`]).
    Audit,
}

impl Chain {
    /// Sets what is hashed apart from everything else that is hashed.
    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Ledger => b"tidegate ledger line 1\n",
            Self::Audit => b"tidegate audit line 1\n",
        }
    }

    /// Its name: of its folder in the state folder, and of the command that verifies it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a line holds, but for its hashes.
pub trait Line: Serialize {
    /// Which chain it is of.
    const CHAIN: Chain;
    /// Its number.
    fn no(&self) -> u64;
    /// When it was, by the wall clock, in milliseconds since 1970: its day is that of its file.
    fn at_ms(&self) -> i64;
}

/// What stands before a line's own hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// What stands after it.
const AFTER_HASH: &[u8] = b"\"}";
/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;
/// Longest line, in bytes; a real one has about 500.
pub const LINE_BYTES_MAX: usize = 4_096;
/// Highest number: JSON readers agree on numbers up to here.
pub const NO_MAX: u64 = (1 << 53) - 1;

/// The hash of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// What the first line of all names as the hash before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line without its last member, which ends before the closing brace.
    fn of(chain: Chain, content: &[u8]) -> Self {
        Self(Sha256::new().chain_update(chain.domain()).chain_update(content).chain_update(b"}").finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no hash of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash of a line has 64 digits, 0 to 9 and a to f")]
pub struct NoChainHash;

impl FromStr for ChainHash {
    type Err = NoChainHash;

    fn from_str(text: &str) -> Result<Self, NoChainHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NoChainHash)?;
        bytes.try_into().map(Self).map_err(|_| NoChainHash)
    }
}

impl Serialize for ChainHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Numbers that can't be written any more.
#[derive(Debug, Serialize)]
struct Lost {
    no: u64,
    lost_from: u64,
}

/// Where a chain ends: what the next line goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Which chain.
    pub chain: Chain,
    /// The last number; 0 before the first line.
    pub no: u64,
    /// The last hash.
    pub hash: ChainHash,
}

impl Tip {
    /// Before the first line of all.
    #[must_use]
    pub const fn start(chain: Chain) -> Self {
        Self { chain, no: 0, hash: ChainHash::NONE }
    }

    /// Writes a line, ended, and goes on to it. Before it comes a line for the numbers between that are lost, if there are any; a chain
    /// may begin with any number. What has its line already, a number that no reader could read, or a line of another chain is passed
    /// over.
    pub fn write<L: Line>(&mut self, line: &L, to: &mut Vec<u8>) {
        let no = line.no();
        if L::CHAIN != self.chain || no <= self.no || no > NO_MAX {
            return;
        }
        if self.no > 0 && no > self.no + 1 {
            let lost = Lost { no: no - 1, lost_from: self.no + 1 };
            self.write_line(lost.no, &lost, to);
        }
        self.write_line(no, line, to);
    }

    fn write_line(&mut self, no: u64, content: &impl Serialize, to: &mut Vec<u8>) {
        let from = to.len();
        // These have text keys alone, and a Vec takes everything: serde_json can't fail on them.
        if serde_json::to_writer(&mut *to, content).is_err() {
            to.truncate(from);
            return;
        }
        // Without the closing brace.
        to.pop();
        to.extend_from_slice(format!(",\"prev\":\"{}\"", self.hash).as_bytes());
        *self = Self { chain: self.chain, no, hash: ChainHash::of(self.chain, &to[from..]) };
        to.extend_from_slice(BEFORE_HASH);
        to.extend_from_slice(self.hash.to_string().as_bytes());
        to.extend_from_slice(AFTER_HASH);
        to.push(b'\n');
    }
}

/// What a chain needs to know of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Which chain.
    pub chain: Chain,
    /// The first number that it stands for: `no`, unless it tells of lost ones.
    pub from: u64,
    /// Its number, the last that it stands for.
    pub no: u64,
    /// Whether it tells of lost numbers.
    pub lost: bool,
    /// The hash of the line before.
    pub prev: ChainHash,
    /// Its own.
    pub hash: ChainHash,
}

impl Link {
    /// Reads a line of a chain, without its end. None when it isn't as it was written: then it does not fit its own hash.
    #[must_use]
    pub fn read(chain: Chain, line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Members {
            no: u64,
            lost_from: Option<u64>,
            prev: String,
        }
        let line = line.strip_suffix(AFTER_HASH)?;
        let (content, hash) = line.split_at_checked(line.len().checked_sub(HASH_DIGITS)?)?;
        let content = content.strip_suffix(BEFORE_HASH)?;
        let hash: ChainHash = std::str::from_utf8(hash).ok()?.parse().ok()?;
        if ChainHash::of(chain, content) != hash {
            return None;
        }
        let Members { no, lost_from, prev } = serde_json::from_slice(&[content, b"}"].concat()).ok()?;
        let from = lost_from.unwrap_or(no);
        let prev = prev.parse().ok()?;
        let is_sound = (1..=no).contains(&from) && no <= NO_MAX;
        is_sound.then_some(Self { chain, from, no, lost: lost_from.is_some(), prev, hash })
    }

    /// Where a chain that ends here ends.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { chain: self.chain, no: self.no, hash: self.hash }
    }
}

#[cfg(test)]
mod tests;

//! Verifying: lines in, in order; the first that is wrong out, or what the whole of them is.

use super::{Chain, ChainHash, Link, Tip};
use serde::Serialize;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It does not fit its own hash.
    #[error("this line was changed: it does not fit its hash")]
    Changed,
    /// Its end is missing.
    #[error("this line is cut short")]
    CutShort,
    /// Lines between it and the one before are missing.
    #[error("before this line, the lines of {from} to {to} are missing")]
    Missing {
        /// The first missing number.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Its number had its line before.
    #[error("{no} had its line before: this one was repeated, moved or put in")]
    Again {
        /// The number.
        no: u64,
    },
    /// Its number follows, and it names another hash than that of the line before.
    #[error("the line before this one was replaced, or this one was put in: they do not fit together")]
    Unchained,
}

/// What a chain without a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Whole {
    /// Lines.
    pub lines: u64,
    /// The first number; 0 where there is no line.
    pub first_no: u64,
    /// The last number.
    pub last_no: u64,
    /// Numbers that lines tell of as lost.
    pub lost: u64,
    /// Whether the first line is the first of all: nothing was removed before it.
    pub from_the_start: bool,
    /// The hash that the first line names as the one before it.
    pub before: ChainHash,
    /// The last hash: whoever keeps it elsewhere can tell later that no line up to it was changed.
    pub last_hash: ChainHash,
    /// Whether the hash that was asked for is one of the chain's; none when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_expected: Option<bool>,
}

/// Verifies a chain line by line, in no more memory than a line.
#[derive(Debug, Clone)]
pub struct Verifier {
    chain: Chain,
    whole: Whole,
    expected: Option<ChainHash>,
}

impl Verifier {
    /// A verifier of a chain.
    #[must_use]
    pub const fn of(chain: Chain) -> Self {
        let whole = Whole {
            lines: 0,
            first_no: 0,
            last_no: 0,
            lost: 0,
            from_the_start: false,
            before: ChainHash::NONE,
            last_hash: ChainHash::NONE,
            has_expected: None,
        };
        Self { chain, whole, expected: None }
    }

    /// Looks out for a hash that was noted earlier. It is found also where it is of the line before the first.
    #[must_use]
    pub fn expecting(self, hash: Option<ChainHash>) -> Self {
        let whole = Whole { has_expected: hash.map(|_| false), ..self.whole };
        Self { whole, expected: hash, ..self }
    }

    /// Takes the next line, with its end.
    ///
    /// # Errors
    /// What is wrong with it. Nothing can be said of what comes after.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let line = line.strip_suffix(b"\n").ok_or(Wrong::CutShort)?;
        let link = Link::read(self.chain, line).ok_or(Wrong::Changed)?;
        if self.whole.lines == 0 {
            self.begin(&link);
        } else {
            self.fits(&link)?;
        }
        self.whole.lines += 1;
        self.whole.last_no = link.no;
        self.whole.last_hash = link.hash;
        self.whole.lost += if link.lost { link.no - link.from + 1 } else { 0 };
        self.look_out_for(link.hash);
        Ok(())
    }

    fn begin(&mut self, link: &Link) {
        self.whole.first_no = link.from;
        self.whole.before = link.prev;
        self.whole.from_the_start = link.prev == ChainHash::NONE;
        self.look_out_for(link.prev);
    }

    fn fits(&self, link: &Link) -> Result<(), Wrong> {
        let Tip { no, hash, .. } = self.tip();
        if link.from > no + 1 {
            return Err(Wrong::Missing { from: no + 1, to: link.from - 1 });
        }
        if link.from <= no {
            return Err(Wrong::Again { no: link.from });
        }
        if link.prev == hash { Ok(()) } else { Err(Wrong::Unchained) }
    }

    fn look_out_for(&mut self, hash: ChainHash) {
        if self.expected == Some(hash) {
            self.whole.has_expected = Some(true);
        }
    }

    /// Where the lines taken so far end.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { chain: self.chain, no: self.whole.last_no, hash: self.whole.last_hash }
    }

    /// What the lines are, taken together.
    #[must_use]
    pub fn end(self) -> Whole {
        self.whole
    }
}

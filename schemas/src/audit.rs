//! The audit log: what operators did, as lines of a [chain](crate::chain); and how much a token allows.
//!
//! An act has two lines. The first is on disk before the act begins: who asks for what. The second says how it ended, and names the first.
//! A first line without a second is an act of which nobody can say whether it was done: the gateway ended in between.
//!
//! Payload-free: aliases, numbers and ids; never a body, an onion address or a key.

use crate::chain::{Chain, Line};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much somebody may do. Each allows what those before it allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything but bodies.
    Read,
    /// Act on entries and destinations: hold, release, retry, purge, signal, pause, resume; check, back up, compact.
    Operate,
    /// Change agreements and the config.
    Admin,
}

impl Scope {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is read, operate or admin")]
pub struct NoScope;

impl std::str::FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or(NoScope)
    }
}

/// What a line of the audit log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number.
    pub no: u64,
    /// The wall clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// That clock could not be believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_untrusted: bool,
    /// Who: the name of a token, or `gateway` for what the gateway itself puts on record.
    pub who: String,
    /// What was done, or asked for.
    pub act: String,
    /// To what, by alias, place or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The number of the line that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// How it ended, as an HTTP status: below 400 it was done (303 is what a form of the console is answered with).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl Line for AuditEntry {
    const CHAIN: Chain = Chain::Audit;
    fn no(&self) -> u64 {
        self.no
    }
    fn at_ms(&self) -> i64 {
        self.at_ms
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::chain::{Tip, Verifier};

    #[test]
    fn scopes_are_in_order_and_have_names() {
        assert!(Scope::Read < Scope::Operate && Scope::Operate < Scope::Admin);
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert_eq!("payload".parse::<Scope>(), Err(NoScope));
    }

    #[test]
    fn an_act_is_two_lines_of_a_chain() {
        let asked = AuditEntry {
            no: 1,
            at_ms: 1_795_435_200_006,
            clock_untrusted: false,
            who: "night-shift".into(),
            act: "purge".into(),
            target: Some("ward/42".into()),
            detail: None,
            of: None,
            status: None,
        };
        let done = AuditEntry { no: 2, of: Some(1), status: Some(200), target: None, ..asked.clone() };
        let (mut tip, mut text) = (Tip::start(Chain::Audit), Vec::new());
        for line in [&asked, &done] {
            tip.write(line, &mut text);
        }
        let text = String::from_utf8(text).unwrap();
        let first = r#"{"no":1,"at_ms":1795435200006,"who":"night-shift","act":"purge","target":"ward/42","prev":""#;
        assert!(text.starts_with(first), "{text}");
        let mut verifier = Verifier::of(Chain::Audit);
        text.split_inclusive('\n').for_each(|line| verifier.take(line.as_bytes()).unwrap());
        assert_eq!(verifier.end().lines, 2);
        let read: Vec<AuditEntry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, [asked, done]);
    }
}

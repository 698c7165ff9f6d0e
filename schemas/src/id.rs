//! Names and numbers that identify things. Parsing is the only way in, so a value of these types is always valid.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};

/// Longest device or destination id, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Nothing there.
    #[error("an id must not be empty")]
    Empty,
    /// Longer than [`ID_BYTES_MAX`].
    #[error("an id has at most {ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that is not allowed.
    #[error("an id has the characters {allowed} only, not {found:?}")]
    Character {
        /// What is allowed, in words.
        allowed: &'static str,
        /// The first character that isn't.
        found: char,
    },
}

fn check(text: &str, allowed: &'static str, is_allowed: fn(char) -> bool) -> Result<(), ParseIdError> {
    if text.is_empty() {
        return Err(ParseIdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(ParseIdError::TooLong(text.len()));
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(found) => Err(ParseIdError::Character { allowed, found }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $allowed:literal, $pattern:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                check(text, $allowed, $is_allowed)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A destination's alias, such as `cardiology`: the only name of a destination that is ever shown or logged.
    DestinationId,
    "a-z, 0-9 and -",
    "^[a-z0-9-]{1,64}$",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
);
text_id!(
    /// A device's name as the gateway's routes give it.
    DeviceId,
    "A-Z, a-z, 0-9, ., _ and -",
    "^[A-Za-z0-9._-]{1,64}$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// The name of a token for the admin endpoint: who an operator's act is by.
    TokenName,
    "A-Z, a-z, 0-9, ., _ and -",
    "^[A-Za-z0-9._-]{1,64}$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);

/// The id that a message carries on the wire: a random UUID (version 4), because an ordered id would tell a receiver how
/// much else the gateway sends. The same on every attempt (CU-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MessageId(uuid::Uuid);

impl MessageId {
    /// An id from 16 random bytes; the version and variant bits are set here.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
    /// An id from its stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl FromStr for MessageId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::try_parse(text).map(Self)
    }
}

/// Where an entry lies in the outbox, and what an operator types: `cardiology/42`. Never leaves the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryRef {
    /// The destination.
    pub destination: DestinationId,
    /// Its place in that destination's order of custody, from 1.
    pub seq: u64,
}
impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.destination, self.seq)
    }
}
impl JsonSchema for EntryRef {
    fn schema_name() -> Cow<'static, str> {
        "EntryRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,64}/[0-9]{1,20}$" })
    }
}
impl FromStr for EntryRef {
    type Err = ParseEntryRefError;
    fn from_str(text: &str) -> Result<Self, ParseEntryRefError> {
        let (destination, seq) = text.rsplit_once('/').ok_or(ParseEntryRefError)?;
        Ok(Self {
            destination: destination.parse().map_err(|_| ParseEntryRefError)?,
            seq: seq.parse().map_err(|_| ParseEntryRefError)?,
        })
    }
}
impl Serialize for EntryRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for EntryRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not an entry's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entry is named DESTINATION/NUMBER, such as cardiology/42")]
pub struct ParseEntryRefError;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_ref_survives_its_text(destination in "[a-z0-9-]{1,64}", seq: u64) {
            let place = EntryRef { destination: destination.parse().unwrap(), seq };
            prop_assert_eq!(place.to_string().parse::<EntryRef>().unwrap(), place);
        }

        #[test]
        fn no_text_makes_an_id_panic(text in ".{0,80}") {
            let _ = text.parse::<DestinationId>();
            let _ = text.parse::<DeviceId>();
            let _ = text.parse::<EntryRef>();
        }
    }

    #[test]
    fn an_id_from_random_bytes_is_a_version_4_uuid() {
        let text = MessageId::from_random([0xff; 16]).to_string();
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]));
    }

    #[test]
    fn ids_refuse_what_would_confuse_a_topic_a_path_or_a_log() {
        for bad in ["", "a/b", "A", "a b", "a\n", "é", "#", "+"] {
            assert!(bad.parse::<DestinationId>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(ID_BYTES_MAX + 1).parse::<DeviceId>().is_err());
    }
}

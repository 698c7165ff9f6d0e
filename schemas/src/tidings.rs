//! Tidings: what the gateway tells devices by MQTT, under which topics, and whom it answers.
//!
//! Everything of the gateway's own lies below one prefix (`tidegate` unless configured otherwise):
//!
//! | topic | what | by |
//! |---|---|---|
//! | `PREFIX/state` | `online`, or the last will `offline`; retained | the broker's connection |
//! | `PREFIX/destinations/ALIAS/state` | [`StateTiding`]; retained | the gateway |
//! | `PREFIX/destinations/ALIAS/signal` | "ready", "not now" | whoever may speak for the destination |
//! | `PREFIX/receipts/DEVICE` | [`ReceiptTiding`] of a device that named no response topic | the gateway |
//!
//! Nothing below the prefix is ever a reading, whatever the routes say: a route `#` must not take the gateway's own words.
//!
//! **A response topic is a wish of whoever published**, and the gateway may write where a device may not. So it answers only topics
//! that the config lists, never one that a route takes (the answer would be delivered as a reading), and below its own prefix only
//! the device's own receipts: see [`Tidings::may_answer`].

mod receipt;
mod state;

pub use receipt::{ReceiptTiding, ReceiptWord};
pub use state::{Outlook, StateTiding, StateWord};

use crate::{
    id::{DestinationId, DeviceId},
    route::{Routes, TopicFilter},
    submission::{Origin, ReplyTo, TOPIC_BYTES_MAX},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest prefix, in bytes.
pub const PREFIX_BYTES_MAX: usize = 64;
/// Longest correlation data that is kept and echoed, in bytes.
pub const CORRELATION_BYTES_MAX: usize = 256;
/// Most filters of response topics.
pub const RESPONSE_FILTERS_MAX: usize = 32;
/// The prefix unless another one is configured.
pub const DEFAULT_PREFIX: &str = "tidegate";

/// What the gateway's own state topic says while it is connected.
const ONLINE: &str = r#"{"state":"online"}"#;
/// What the broker says there when the gateway is gone.
const OFFLINE: &str = r#"{"state":"offline"}"#;

/// The first levels of all topics of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// Too long, or nothing there.
    #[error("a prefix has 1 to {PREFIX_BYTES_MAX} bytes")]
    Length,
    /// Not a topic's beginning.
    #[error(
        "a prefix is the beginning of a topic: levels with \"/\" between them, none empty, no \"+\", \"#\" or \"$\""
    )]
    Form,
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        if text.is_empty() || text.len() > PREFIX_BYTES_MAX {
            return Err(ParsePrefixError::Length);
        }
        let fine = is_topic_name(text) && !text.contains('$') && text.split('/').all(|level| !level.is_empty());
        if fine { Ok(Self(text.to_owned())) } else { Err(ParsePrefixError::Form) }
    }
}
impl Default for Prefix {
    fn default() -> Self {
        Self(DEFAULT_PREFIX.to_owned())
    }
}
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text can be published to: no wildcard, no control character, not one of the broker's own (`$...`), of bounded length.
#[must_use]
pub fn is_topic_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TOPIC_BYTES_MAX
        && !text.starts_with('$')
        && !text.contains(|c: char| c == '+' || c == '#' || c.is_control())
}

/// What devices are told, as the config has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// Below it lies everything of the gateway's own.
    pub prefix: Prefix,
    /// Whether devices are told how each destination and the gateway are.
    pub states: bool,
    /// Whether devices without a response topic hear of their messages on a topic of their own.
    pub receipts: bool,
    /// Response topics that are answered.
    pub response_topics: Vec<TopicFilter>,
}

impl Default for Tidings {
    fn default() -> Self {
        let prefix = Prefix::default();
        let response_topics = prefix.receipts_filter().into_iter().collect();
        Self { prefix, states: true, receipts: false, response_topics }
    }
}

/// The gateway's own state: what it says while it is connected, and its last will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Where; retained.
    pub topic: String,
    /// Said at every connection.
    pub online: &'static str,
    /// Said by the broker when the connection is gone.
    pub offline: &'static str,
}

/// A topic below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// A signal for this destination; `None` if what stands there is no alias.
    Signal(Option<DestinationId>),
    /// Anything else: nobody takes it.
    Other,
}

/// Why a response topic is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyRefusal {
    /// It can't be published to.
    #[error("the response topic is no topic that can be published to")]
    Form,
    /// Longer than [`CORRELATION_BYTES_MAX`].
    #[error("the correlation data is longer than {CORRELATION_BYTES_MAX} bytes")]
    Correlation,
    /// It is the gateway's own, or another device's.
    #[error("the response topic is the gateway's own or another device's")]
    Reserved,
    /// The config doesn't list it.
    #[error("the response topic is not among mqtt.response_topics")]
    NotListed,
    /// The answer would be taken for a reading.
    #[error("a route takes the response topic")]
    Routed,
}

impl Prefix {
    /// The filter of all receipts below it.
    #[must_use]
    pub fn receipts_filter(&self) -> Option<TopicFilter> {
        format!("{}/receipts/#", self.0).parse().ok()
    }

    fn rest<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic.strip_prefix(self.0.as_str())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }
}

impl Tidings {
    /// The gateway's own state, unless states are switched off.
    #[must_use]
    pub fn presence(&self) -> Option<Presence> {
        let topic = format!("{}/state", self.prefix);
        self.states.then_some(Presence { topic, online: ONLINE, offline: OFFLINE })
    }

    /// Where the state of a destination is told.
    #[must_use]
    pub fn state_topic(&self, destination: &DestinationId) -> String {
        format!("{}/destinations/{destination}/state", self.prefix)
    }

    /// The filter of all signals.
    #[must_use]
    pub fn signal_filter(&self) -> String {
        format!("{}/destinations/+/signal", self.prefix)
    }

    /// Where a device without a response topic is told.
    #[must_use]
    pub fn receipt_topic(&self, device: &DeviceId) -> String {
        format!("{}/receipts/{device}", self.prefix)
    }

    /// What a topic is, if it lies below the prefix: then it is never a reading.
    #[must_use]
    pub fn own(&self, topic: &str) -> Option<Own> {
        let rest = self.prefix.rest(topic)?;
        let signalled = rest.strip_prefix("destinations/").and_then(|rest| rest.strip_suffix("/signal"));
        let alias = signalled.filter(|alias| !alias.contains('/'));
        Some(alias.map_or(Own::Other, |alias| Own::Signal(alias.parse().ok())))
    }

    /// Whether this device may be answered there.
    ///
    /// # Errors
    /// Why not; its message is taken all the same.
    pub fn may_answer(&self, reply_to: &ReplyTo, device: &DeviceId, routes: &Routes) -> Result<(), ReplyRefusal> {
        let topic = reply_to.topic.as_str();
        if !is_topic_name(topic) {
            return Err(ReplyRefusal::Form);
        }
        if reply_to.correlation.as_ref().is_some_and(|data| data.len() > CORRELATION_BYTES_MAX) {
            return Err(ReplyRefusal::Correlation);
        }
        let own = self.prefix.rest(topic).is_some();
        if own && !is_at_or_below(topic, &self.receipt_topic(device)) {
            return Err(ReplyRefusal::Reserved);
        }
        if !self.response_topics.iter().any(|filter| filter.matches(topic)) {
            return Err(ReplyRefusal::NotListed);
        }
        // Below the prefix no route takes anything.
        if !own && routes.takes(topic) { Err(ReplyRefusal::Routed) } else { Ok(()) }
    }

    /// Where a device hears of a message, if it does. The response topic was looked at before custody; it is looked at again,
    /// because routes and lists change while a message waits.
    #[must_use]
    pub fn receipt_to(
        &self,
        device: &DeviceId,
        origin: Origin,
        reply_to: Option<&ReplyTo>,
        routes: &Routes,
    ) -> Option<ReplyTo> {
        match reply_to {
            Some(reply_to) => self.may_answer(reply_to, device, routes).is_ok().then(|| reply_to.clone()),
            None if self.receipts && origin != Origin::Http => {
                Some(ReplyTo { topic: self.receipt_topic(device), correlation: None })
            }
            None => None,
        }
    }
}

fn is_at_or_below(topic: &str, above: &str) -> bool {
    topic.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first number that nobody was given yet: what sequence numbers are made of, across restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serials {
    /// The next one.
    pub next: u64,
}

#[cfg(test)]
mod asyncapi_tests;
#[cfg(test)]
mod tests;

//! Routes: the one pure rule by which a publication gets its device and its destination (DESIGN decision 11).
//!
//! A route has a topic filter whose levels may be named captures (`{device}`, `{destination}`). Device and destination each
//! come from a capture, a fixed value or, where the route trusts them, an MQTT 5 user property. Whatever the device says, the
//! destination must be in the route's allow-list. MQTT and HTTP intake both go through [`Routes::route`].

use crate::{
    id::{DestinationId, DeviceId},
    submission::{
        BODY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, LABEL_BYTES_MAX, Origin, Payload, Priority, Publication,
        QuarantineReason, Redelivery, Submission, TOPIC_BYTES_MAX,
    },
};
use serde::{Deserialize, Serialize};

/// Most routes of one gateway.
pub const ROUTES_MAX: usize = 256;
/// The user property that names the destination, on routes that trust it.
pub const DESTINATION_PROPERTY: &str = "destination";
/// The user property that names the device, on routes that trust it.
pub const DEVICE_PROPERTY: &str = "device";

/// One level of a topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exact(String),
    Any,
    Device,
    Destination,
    Rest,
}

/// An MQTT topic filter with named captures, such as `{destination}/+/+` or `ward/{device}/#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFilter {
    levels: Vec<Level>,
}

/// Why a text is not a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTopicFilterError {
    /// Nothing there.
    #[error("a topic filter must not be empty")]
    Empty,
    /// `#` before the end.
    #[error("\"#\" stands for all that follows, so it can only be the last level")]
    HashNotLast,
    /// A wildcard within a level.
    #[error("\"+\" and \"#\" must be a whole level: {0:?}")]
    PartialWildcard(String),
    /// A brace that is neither capture.
    #[error("a capture is {{device}} or {{destination}} and a whole level, not {0:?}")]
    Capture(String),
    /// The same capture twice.
    #[error("{0} is captured twice")]
    Twice(&'static str),
}

impl std::str::FromStr for TopicFilter {
    type Err = ParseTopicFilterError;

    fn from_str(text: &str) -> Result<Self, ParseTopicFilterError> {
        if text.is_empty() {
            return Err(ParseTopicFilterError::Empty);
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(ParseTopicFilterError::HashNotLast);
            }
            levels.push(match level {
                "+" => Level::Any,
                "#" => Level::Rest,
                "{device}" => Level::Device,
                "{destination}" => Level::Destination,
                other if other.contains(['+', '#']) => {
                    return Err(ParseTopicFilterError::PartialWildcard(other.to_owned()));
                }
                other if other.contains(['{', '}']) => return Err(ParseTopicFilterError::Capture(other.to_owned())),
                other => Level::Exact(other.to_owned()),
            });
        }
        for (level, name) in [(Level::Device, "{device}"), (Level::Destination, "{destination}")] {
            if levels.iter().filter(|l| **l == level).count() > 1 {
                return Err(ParseTopicFilterError::Twice(name));
            }
        }
        Ok(Self { levels })
    }
}

/// What a filter captured.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Captures<'t> {
    device: Option<&'t str>,
    destination: Option<&'t str>,
}

impl TopicFilter {
    /// The MQTT filter to subscribe to: captures become `+`.
    #[must_use]
    pub fn subscription(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Exact(text) => text.as_str(),
                Level::Any | Level::Device | Level::Destination => "+",
                Level::Rest => "#",
            })
            .collect();
        levels.join("/")
    }

    /// Whether it captures the device.
    #[must_use]
    pub fn captures_device(&self) -> bool {
        self.levels.contains(&Level::Device)
    }

    /// Whether it captures the destination.
    #[must_use]
    pub fn captures_destination(&self) -> bool {
        self.levels.contains(&Level::Destination)
    }

    /// Whether it matches this topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.captures(topic).is_some()
    }

    fn captures<'t>(&self, topic: &'t str) -> Option<Captures<'t>> {
        let mut found = Captures::default();
        let mut levels = topic.split('/');
        for (index, wanted) in self.levels.iter().enumerate() {
            if *wanted == Level::Rest {
                // A leading wildcard must not match $SYS and the like (MQTT 5, section 4.7.2).
                return (index > 0 || !topic.starts_with('$')).then_some(found);
            }
            let level = levels.next()?;
            match wanted {
                Level::Exact(text) if text != level => return None,
                Level::Exact(_) | Level::Rest => {}
                Level::Any | Level::Device | Level::Destination if index == 0 && level.starts_with('$') => return None,
                Level::Any => {}
                Level::Device => found.device = Some(level),
                Level::Destination => found.destination = Some(level),
            }
        }
        levels.next().is_none().then_some(found)
    }
}

/// Where a route takes an id from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSource<T> {
    /// The named capture of the filter.
    Capture,
    /// Always this one.
    Fixed(T),
    /// The MQTT 5 user property of that name, which the operator chose to trust.
    Property,
}

/// What a route does with the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadHandling {
    /// Passed on as it is.
    #[default]
    Opaque,
    /// The paper's subscriber: the last topic level is the measure, the text after the last colon, trimmed, is the value.
    PrivateIot,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which topics.
    pub filter: TopicFilter,
    /// Who sent it.
    pub device: IdSource<DeviceId>,
    /// Where it goes.
    pub destination: IdSource<DestinationId>,
    /// The destinations that this route may yield; none written: all that there are, those of the admin API too.
    pub allow: Option<Vec<DestinationId>>,
    /// What is done with the body.
    pub payload: PayloadHandling,
    /// Whether messages from the broker's retained store are taken on (re)subscription.
    pub retained: bool,
    /// What goes first.
    pub priority: Priority,
}

impl Route {
    /// The destinations that it names by itself: without them, it would make no sense.
    pub fn named(&self) -> impl Iterator<Item = &DestinationId> {
        let fixed = match &self.destination {
            IdSource::Fixed(id) => Some(id),
            IdSource::Capture | IdSource::Property => None,
        };
        self.allow.iter().flatten().chain(fixed)
    }

    /// Whether it names this one.
    #[must_use]
    pub fn names(&self, id: &DestinationId) -> bool {
        self.named().any(|named| named == id)
    }
}

/// The routes of the gateway, first match wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes(pub Vec<Route>);

impl Routes {
    /// The MQTT filters to subscribe to, without repetitions.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        let mut filters: Vec<String> = self.0.iter().map(|route| route.filter.subscription()).collect();
        filters.sort();
        filters.dedup();
        filters
    }

    /// Whether a retained message on this topic is wanted.
    #[must_use]
    pub fn wants_retained(&self, topic: &str) -> bool {
        self.find(topic).is_some_and(|(route, _)| route.retained)
    }

    /// Whether any route takes this topic.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        self.find(topic).is_some()
    }

    fn find<'t>(&self, topic: &'t str) -> Option<(&Route, Captures<'t>)> {
        self.0.iter().find_map(|route| route.filter.captures(topic).map(|captures| (route, captures)))
    }

    /// The submission that this publication makes.
    ///
    /// # Errors
    /// The reason for which it goes to quarantine.
    pub fn route(&self, publication: &Publication) -> Result<Submission, QuarantineReason> {
        if publication.topic.len() > TOPIC_BYTES_MAX {
            return Err(QuarantineReason::TopicTooLong);
        }
        let (route, captures) = self.find(&publication.topic).ok_or(QuarantineReason::NoRoute)?;
        let property = |name: &str| {
            publication.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let device = match &route.device {
            IdSource::Fixed(id) => id.clone(),
            IdSource::Capture => parse(captures.device).ok_or(QuarantineReason::BadDevice)?,
            IdSource::Property => parse(property(DEVICE_PROPERTY)).ok_or(QuarantineReason::BadDevice)?,
        };
        let destination: DestinationId = match &route.destination {
            IdSource::Fixed(id) => id.clone(),
            IdSource::Capture => parse(captures.destination).ok_or(QuarantineReason::BadDestination)?,
            IdSource::Property => parse(property(DESTINATION_PROPERTY)).ok_or(QuarantineReason::BadDestination)?,
        };
        if route.allow.as_ref().is_some_and(|allow| !allow.contains(&destination)) {
            return Err(QuarantineReason::NotAllowed);
        }
        if publication.payload.len() > BODY_BYTES_MAX {
            return Err(QuarantineReason::TooLarge);
        }
        let (label, payload, content_type) = handle_payload(route.payload, publication)?;
        Ok(Submission {
            device,
            destination,
            label,
            content_type,
            payload,
            origin: publication.origin,
            redelivery: publication.redelivery.clone(),
            expiry_s: publication.expiry_s,
            priority: route.priority,
            reply_to: publication.reply_to.clone(),
        })
    }
}

/// A reading that names its destination itself, as the device HTTP endpoint takes it: no topic, no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReading {
    /// Who sent it, by its credential or, on loopback without credentials, by its word.
    pub device: DeviceId,
    /// Where it asks to go.
    pub destination: DestinationId,
    /// The body.
    pub payload: Payload,
    /// Content type of the body, if given.
    pub content_type: Option<String>,
    /// Its mark for recognising a redelivery.
    pub redelivery: Option<Redelivery>,
}

impl DirectReading {
    /// The submission that it makes, where `allow` are the destinations that this device may name.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn submission(self, allow: &[DestinationId]) -> Result<Submission, QuarantineReason> {
        if !allow.contains(&self.destination) {
            return Err(QuarantineReason::NotAllowed);
        }
        if self.payload.len() > BODY_BYTES_MAX {
            return Err(QuarantineReason::TooLarge);
        }
        Ok(Submission {
            device: self.device,
            destination: self.destination,
            label: None,
            content_type: content_type_or_opaque(self.content_type),
            payload: self.payload,
            origin: Origin::Http,
            redelivery: self.redelivery,
            expiry_s: None,
            priority: Priority::Normal,
            reply_to: None,
        })
    }
}

fn content_type_or_opaque(given: Option<String>) -> String {
    given.filter(|text| is_content_type(text)).unwrap_or_else(|| "application/octet-stream".to_owned())
}

fn parse<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text.and_then(|text| text.parse().ok())
}

type Handled = (Option<String>, Payload, String);

fn handle_payload(handling: PayloadHandling, publication: &Publication) -> Result<Handled, QuarantineReason> {
    match handling {
        PayloadHandling::Opaque => {
            Ok((None, publication.payload.clone(), content_type_or_opaque(publication.content_type.clone())))
        }
        PayloadHandling::PrivateIot => {
            let text = std::str::from_utf8(publication.payload.reveal()).map_err(|_| QuarantineReason::Malformed)?;
            let value = text.rsplit(':').next().unwrap_or(text).trim();
            let measure = publication.topic.rsplit('/').next().unwrap_or_default();
            if measure.is_empty() || measure.len() > LABEL_BYTES_MAX || value.is_empty() {
                return Err(QuarantineReason::Malformed);
            }
            let payload = Payload::new(value.to_owned());
            Ok((Some(measure.to_owned()), payload, "text/plain; charset=utf-8".to_owned()))
        }
    }
}

/// Whether a text can stand in an HTTP header as a content type: visible ASCII, a slash, of bounded length.
#[must_use]
pub fn is_content_type(text: &str) -> bool {
    text.len() <= CONTENT_TYPE_BYTES_MAX && text.contains('/') && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn publication(topic: &str, payload: &str) -> Publication {
        Publication {
            topic: topic.to_owned(),
            payload: Payload::new(payload.to_owned()),
            content_type: None,
            user_properties: vec![],
            expiry_s: None,
            reply_to: None,
            retained: false,
            origin: Origin::MqttQos1,
            redelivery: None,
        }
    }

    fn routes(filter: &str, payload: PayloadHandling) -> Routes {
        Routes(vec![Route {
            filter: filter.parse().unwrap(),
            device: IdSource::Fixed("patient".parse().unwrap()),
            destination: IdSource::Capture,
            allow: Some(vec!["cardiology".parse().unwrap()]),
            payload,
            retained: false,
            priority: Priority::Normal,
        }])
    }

    #[test]
    fn the_papers_reading_keeps_its_measure_and_its_value() {
        let mut routes = routes("patient/+/+", PayloadHandling::PrivateIot);
        routes.0[0].destination = IdSource::Fixed("cardiology".parse().unwrap());
        let made = routes.route(&publication("patient/tension/mmHg", "Tension: 120.00 mmHg ")).unwrap();
        assert_eq!(made.label.as_deref(), Some("mmHg"));
        assert_eq!(&made.payload.reveal()[..], b"120.00 mmHg");
        assert_eq!(made.device.as_str(), "patient");
    }

    #[test]
    fn a_destination_outside_the_allow_list_is_refused_whatever_the_device_says() {
        let routes = routes("{destination}/+/+", PayloadHandling::Opaque);
        assert!(routes.route(&publication("cardiology/a/b", "1")).is_ok());
        assert_eq!(routes.route(&publication("elsewhere/a/b", "1")), Err(QuarantineReason::NotAllowed));
        assert_eq!(routes.route(&publication("Not An Id/a/b", "1")), Err(QuarantineReason::BadDestination));
        assert_eq!(routes.route(&publication("cardiology/a", "1")), Err(QuarantineReason::NoRoute));
    }

    #[test]
    fn user_properties_count_only_where_the_route_trusts_them() {
        let mut with_property = publication("x/y", "1");
        with_property.user_properties = vec![("destination".into(), "cardiology".into())];
        let mut routes = routes("x/y", PayloadHandling::Opaque);
        routes.0[0].destination = IdSource::Fixed("other".parse().unwrap());
        assert_eq!(routes.route(&with_property), Err(QuarantineReason::NotAllowed));
        routes.0[0].destination = IdSource::Property;
        assert_eq!(routes.route(&with_property).unwrap().destination.as_str(), "cardiology");
    }

    #[test]
    fn a_direct_reading_goes_only_where_its_device_may_send() {
        let reading = |destination: &str, bytes: usize| DirectReading {
            device: "pump".parse().unwrap(),
            destination: destination.parse().unwrap(),
            payload: Payload::new(vec![0; bytes]),
            content_type: Some("nonsense".into()),
            redelivery: None,
        };
        let allow = ["cardiology".parse().unwrap()];
        let made = reading("cardiology", BODY_BYTES_MAX).submission(&allow).unwrap();
        assert_eq!(
            (made.device.as_str(), made.content_type.as_str(), made.origin),
            ("pump", "application/octet-stream", Origin::Http)
        );
        assert_eq!(reading("elsewhere", 1).submission(&allow), Err(QuarantineReason::NotAllowed));
        assert_eq!(reading("cardiology", BODY_BYTES_MAX + 1).submission(&allow), Err(QuarantineReason::TooLarge));
    }

    #[test]
    fn leading_wildcards_leave_the_brokers_own_topics_alone() {
        for filter in ["#", "+/broker/uptime", "{device}/broker/uptime"] {
            let filter: TopicFilter = filter.parse().unwrap();
            assert_eq!(filter.captures("$SYS/broker/uptime"), None);
        }
    }

    #[test]
    fn filters_that_mqtt_would_refuse_are_refused() {
        for bad in ["", "a/#/b", "a+/b", "{who}/a", "a/{device", "{device}/{device}"] {
            assert!(bad.parse::<TopicFilter>().is_err(), "{bad:?}");
        }
        let filter: TopicFilter = "{destination}/{device}/#".parse().unwrap();
        assert_eq!(filter.subscription(), "+/+/#");
    }

    #[test]
    fn hash_matches_its_parent_level_too() {
        let filter: TopicFilter = "a/#".parse().unwrap();
        assert!(filter.captures("a").is_some() && filter.captures("a/b/c").is_some());
        assert!(filter.captures("b").is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_published_routing_does_not_panic(topic in ".{0,40}", body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut publication = publication(&topic, "");
            publication.payload = Payload::new(body);
            for handling in [PayloadHandling::Opaque, PayloadHandling::PrivateIot] {
                let _ = routes("{destination}/#", handling).route(&publication);
            }
        }

        #[test]
        fn a_routed_destination_is_always_allowed(topic in "[a-z/]{0,30}") {
            if let Ok(made) = routes("{destination}/#", PayloadHandling::Opaque).route(&publication(&topic, "x")) {
                prop_assert_eq!(made.destination.as_str(), "cardiology");
            }
        }
    }
}

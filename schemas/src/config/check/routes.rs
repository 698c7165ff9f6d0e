//! `[[route]]`: filters that MQTT takes, ids that can be had, destinations that exist.

use super::{Checker, did_you_mean};
use crate::{
    config::raw::{RawIdSource, RawRoute},
    id::DestinationId,
    route::{IdSource, ROUTES_MAX, Route, Routes, TopicFilter},
    submission::TOPIC_BYTES_MAX,
};
use std::str::FromStr;

/// One end of a route: `device` or `destination`.
struct End<'a> {
    key: &'static str,
    path: &'a str,
    captured: bool,
}

impl Checker<'_> {
    pub(super) fn routes(&mut self, raw: Vec<RawRoute>, declared: &[String]) -> Routes {
        if raw.len() > ROUTES_MAX {
            self.refuse("route", format!("more than {ROUTES_MAX} routes"), "");
        }
        let routes = raw.into_iter().enumerate();
        Routes(routes.filter_map(|(index, raw)| self.route(raw, &format!("route[{index}]"), declared)).collect())
    }

    fn route(&mut self, raw: RawRoute, path: &str, declared: &[String]) -> Option<Route> {
        let filter = self.topic(raw.topic.as_deref(), path)?;
        let end = |key, captured| End { key, path, captured };
        let device = self.id_source(raw.device, &end("device", filter.captures_device()));
        let destination: Option<IdSource<DestinationId>> =
            self.id_source(raw.destination, &end("destination", filter.captures_destination()));
        if let Some(IdSource::Fixed(id)) = &destination {
            self.declared(id.as_str(), format!("{path}.destination"), declared);
        }
        let allow = match (&raw.allow, &destination) {
            (Some(names), _) => Some(self.allow(names, path, declared)),
            (None, Some(IdSource::Fixed(id))) => Some(vec![id.clone()]),
            (None, _) => None,
        };
        if let (Some(allow), Some(IdSource::Fixed(id))) = (&allow, &destination)
            && !allow.contains(id)
        {
            let message = format!("this route always yields {id}, which its allow-list does not have");
            self.refuse(format!("{path}.allow"), message, "leave allow out, or add the destination to it");
        }
        Some(Route {
            filter,
            device: device?,
            destination: destination?,
            allow,
            payload: raw.payload,
            retained: raw.retained,
            priority: raw.priority,
        })
    }

    fn topic(&mut self, topic: Option<&str>, path: &str) -> Option<TopicFilter> {
        let path = format!("{path}.topic");
        let Some(topic) = topic else {
            self.refuse(path, "a route needs a topic filter", "such as topic = \"ward/{device}/#\"");
            return None;
        };
        if topic.len() > TOPIC_BYTES_MAX {
            self.refuse(path, format!("a topic filter has at most {TOPIC_BYTES_MAX} bytes"), "");
            return None;
        }
        match topic.parse() {
            Ok(filter) => Some(filter),
            Err(error) => {
                let error: crate::route::ParseTopicFilterError = error;
                self.refuse(path, error.to_string(), "");
                None
            }
        }
    }

    fn id_source<T: FromStr>(&mut self, raw: Option<RawIdSource>, end: &End<'_>) -> Option<IdSource<T>>
    where
        T::Err: std::fmt::Display,
    {
        let End { key, path, captured } = end;
        let capture = format!("{{{key}}}");
        let at = format!("{path}.{key}");
        match raw {
            None if *captured => Some(IdSource::Capture),
            None => {
                let hint = format!("capture it in the topic with {capture}, or add {key} = \"NAME\"");
                self.refuse(at, format!("this route does not say which {key} it is"), hint);
                None
            }
            Some(RawIdSource::Text(text)) if text == capture => {
                if !captured {
                    self.refuse(at, format!("{capture} is not captured by the topic of this route"), "");
                }
                captured.then_some(IdSource::Capture)
            }
            Some(RawIdSource::Text(text)) => match text.parse() {
                Ok(id) => {
                    if *captured {
                        let message = format!("the topic captures {capture}, and this name replaces it");
                        self.warn(at, message, "write + in the topic if the level does not matter");
                    }
                    Some(IdSource::Fixed(id))
                }
                Err(error) => {
                    self.refuse(
                        at,
                        error.to_string(),
                        format!("write a name, \"{capture}\", or {{ property = true }}"),
                    );
                    None
                }
            },
            Some(RawIdSource::Property(true)) => {
                let message = format!("devices on this route name their {key} themselves, and are believed");
                self.warn(at, message, "fine if the broker lets trusted devices alone publish here");
                Some(IdSource::Property)
            }
            Some(RawIdSource::Property(false)) => {
                self.refuse(at, "property = false says nothing", "leave the key out");
                None
            }
        }
    }

    fn allow(&mut self, names: &[String], path: &str, declared: &[String]) -> Vec<DestinationId> {
        if names.is_empty() {
            let hint = "leave allow out for all destinations";
            self.refuse(format!("{path}.allow"), "an empty allow-list sends everything to quarantine", hint);
        }
        let mut allow = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let path = format!("{path}.allow[{index}]");
            match name.parse() {
                Ok(id) if !allow.contains(&id) => {
                    self.declared(name, path, declared);
                    allow.push(id);
                }
                Ok(_) => {}
                Err(error) => {
                    let error: crate::id::ParseIdError = error;
                    self.refuse(path, error.to_string(), "");
                }
            }
        }
        allow
    }

    fn declared(&mut self, name: &str, path: String, declared: &[String]) {
        if !declared.iter().any(|known| known == name) {
            let hint = did_you_mean(name, declared.iter().map(String::as_str), format!("add [destination.{name}]"));
            self.refuse(path, format!("there is no destination {name:?}"), hint);
        }
    }
}

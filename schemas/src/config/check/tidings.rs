//! `[mqtt]`: what devices are told, and whom the gateway answers.

use super::Checker;
use crate::{
    route::{Routes, TopicFilter},
    tidings::{Prefix, RESPONSE_FILTERS_MAX, Tidings},
};

impl Checker<'_> {
    pub(super) fn tidings(
        &mut self,
        prefix: Option<&str>,
        states: Option<bool>,
        receipts: Option<bool>,
        response_topics: Option<&[String]>,
    ) -> Tidings {
        let prefix = prefix.map_or_else(Prefix::default, |text| self.prefix(text));
        let response_topics = match response_topics {
            Some(filters) => self.response_topics(filters),
            None => prefix.receipts_filter().into_iter().collect(),
        };
        Tidings { prefix, states: states.unwrap_or(true), receipts: receipts.unwrap_or(false), response_topics }
    }

    fn prefix(&mut self, text: &str) -> Prefix {
        text.parse().unwrap_or_else(|error: crate::tidings::ParsePrefixError| {
            self.refuse("mqtt.prefix", error.to_string(), "such as \"tidegate\" or \"home/tidegate\"");
            Prefix::default()
        })
    }

    fn response_topics(&mut self, filters: &[String]) -> Vec<TopicFilter> {
        if filters.len() > RESPONSE_FILTERS_MAX {
            self.refuse("mqtt.response_topics", format!("more than {RESPONSE_FILTERS_MAX} filters"), "");
        }
        let mut parsed = Vec::new();
        for (index, text) in filters.iter().enumerate() {
            let path = format!("mqtt.response_topics[{index}]");
            match text.parse::<TopicFilter>() {
                Ok(filter) if filter.captures_device() || filter.captures_destination() => {
                    self.refuse(path, "a filter of response topics captures nothing", "write + for any level");
                }
                Ok(filter) => parsed.push(filter),
                Err(error) => self.refuse(path, error.to_string(), "such as \"answers/+/receipts\""),
            }
        }
        parsed
    }

    /// Routes that can never take anything, because all that they match is the gateway's own.
    pub(super) fn refuse_own_topics(&mut self, routes: &Routes, tidings: &Tidings) {
        for (index, route) in routes.0.iter().enumerate() {
            if tidings.own(&route.filter.subscription()).is_some() {
                let message =
                    format!("nothing below {}/ is ever taken: these topics are the gateway's own", tidings.prefix);
                self.refuse(format!("route[{index}].topic"), message, "take another topic, or set mqtt.prefix");
            }
        }
    }
}

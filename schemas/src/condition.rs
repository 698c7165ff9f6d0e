//! Entity tags, and what a request may be bound to (RFC 9110, sections 8.8.3 and 13).
//!
//! Two operators may edit one agreement at the same time. Each read a version, and each sends a change of it; without a condition the
//! later one undoes the earlier one unseen. A change that says `If-Match: "7"` is made of version 7 alone. The condition goes with the
//! change to where versions are decided (the Registry), and is looked at there in the change's turn: nothing comes between.

use std::str::FromStr;

/// Most tags of one header.
pub const TAGS_MAX: usize = 32;

/// An entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What stands between the quotes.
    pub opaque: String,
    /// `W/`: as good as, but not the same bytes.
    pub weak: bool,
}

/// What `If-Match` or `If-None-Match` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever is there.
    Any,
    /// Any of these.
    These(Vec<Tag>),
}

/// What must hold for a request to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match` (section 13.1.1): one of these is what is there. Weak tags never match.
    pub if_match: Option<Tags>,
    /// `If-None-Match` (section 13.1.2): none of these is what is there. Weak tags match as others do.
    pub if_none_match: Option<Tags>,
}

impl Condition {
    /// Bound to this version of an agreement.
    #[must_use]
    pub fn version(version: u64) -> Self {
        let tag = Tag { opaque: version_tag(version), weak: false };
        Self { if_match: Some(Tags::These(vec![tag])), if_none_match: None }
    }

    /// Bound to nothing being there.
    #[must_use]
    pub fn absent() -> Self {
        Self { if_match: None, if_none_match: Some(Tags::Any) }
    }

    /// Whether it holds for what is there now, by its tag; `None` where nothing is.
    #[must_use]
    pub fn holds(&self, current: Option<&str>) -> bool {
        let matches = self.if_match.as_ref().is_none_or(|tags| tags.name(current, false));
        matches && !self.if_none_match.as_ref().is_some_and(|tags| tags.name(current, true))
    }
}

impl Tags {
    fn name(&self, current: Option<&str>, weakly: bool) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(tags), Some(current)) => tags.iter().any(|tag| tag.opaque == current && (weakly || !tag.weak)),
        }
    }
}

/// Why a header can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseTagsError {
    /// It has another form.
    #[error("it is * or a list of entity tags, each in double quotes: \"7\"")]
    Form,
    /// It is too long.
    #[error("it has more than {TAGS_MAX} entity tags")]
    TooMany,
}

impl FromStr for Tags {
    type Err = ParseTagsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim_matches([' ', '\t']);
        if rest == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let (opaque, after) =
                quoted.strip_prefix('"').and_then(|inner| inner.split_once('"')).ok_or(ParseTagsError::Form)?;
            if !opaque.chars().all(|c| c > ' ' && c != '\u{7f}') {
                return Err(ParseTagsError::Form);
            }
            if tags.len() == TAGS_MAX {
                return Err(ParseTagsError::TooMany);
            }
            tags.push(Tag { opaque: opaque.to_owned(), weak });
            let after = after.trim_start_matches([' ', '\t']);
            if !after.is_empty() && !after.starts_with(',') {
                return Err(ParseTagsError::Form);
            }
            rest = after.trim_start_matches([',', ' ', '\t']);
        }
        if tags.is_empty() { Err(ParseTagsError::Form) } else { Ok(Self::These(tags)) }
    }
}

/// The tag of a version of an agreement: what stands between the quotes. Versions rise with every change and outlive the destination,
/// so one tag stands for one text.
#[must_use]
pub fn version_tag(version: u64) -> String {
    version.to_string()
}

/// A tag as it stands in `ETag` and `If-Match`.
#[must_use]
pub fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn condition(if_match: Option<&str>, if_none_match: Option<&str>) -> Condition {
        let tags = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        Condition { if_match: tags(if_match), if_none_match: tags(if_none_match) }
    }

    #[test]
    fn conditions_hold_as_rfc_9110_says() {
        for (if_match, if_none_match, current, holds) in [
            (None, None, None, true),
            (None, None, Some("7"), true),
            (Some("\"7\""), None, Some("7"), true),
            (Some("\"7\""), None, Some("8"), false),
            (Some("\"7\""), None, None, false),
            (Some("\"6\" , ,\"7\""), None, Some("7"), true),
            (Some("W/\"7\""), None, Some("7"), false),
            (Some("*"), None, Some("7"), true),
            (Some("*"), None, None, false),
            (None, Some("*"), None, true),
            (None, Some("*"), Some("7"), false),
            (None, Some("\"7\""), Some("7"), false),
            (None, Some("W/\"7\""), Some("7"), false),
            (None, Some("\"6\""), Some("7"), true),
            (Some("\"7\""), Some("\"7\""), Some("7"), false),
        ] {
            let found = condition(if_match, if_none_match).holds(current);
            assert_eq!(found, holds, "{if_match:?} {if_none_match:?} {current:?}");
        }
        assert!(Condition::version(7).holds(Some("7")) && !Condition::version(7).holds(Some("8")));
        assert!(Condition::absent().holds(None) && !Condition::absent().holds(Some("1")));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for bad in ["", " ", "7", "\"7", "\"7\"x", "\"7\" \"8\"", "w/\"7\"", "*, \"7\"", "\"a b\"", ","] {
            assert_eq!(bad.parse::<Tags>(), Err(ParseTagsError::Form), "{bad:?}");
        }
        assert_eq!("\"1\",".repeat(TAGS_MAX + 1).parse::<Tags>(), Err(ParseTagsError::TooMany));
    }

    proptest! {
        #[test]
        fn every_version_is_found_by_its_own_tag_alone(version in any::<u64>(), other in any::<u64>()) {
            let bound = condition(Some(&quoted(&version_tag(version))), None);
            prop_assert!(bound.holds(Some(&version_tag(version))));
            prop_assert_eq!(bound.holds(Some(&version_tag(other))), version == other);
        }

        #[test]
        fn no_header_panics(text in ".{0,40}") {
            let _ = text.parse::<Tags>();
        }
    }
}

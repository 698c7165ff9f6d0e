//! What the pages of the receiver and of the console have in common: the look (`base.css`), the headers that shut every door of a
//! browser, forms, sessions, and words for times and counts.
//!
//! Pages are whole without JavaScript and without SVG, load nothing from elsewhere, and carry nothing inline.

pub(crate) mod form;
pub(crate) mod sessions;
pub(crate) mod words;

use sha2::{Digest as _, Sha256};

/// The icon.
pub(crate) const ICON: &[u8] = include_bytes!("web/icon.png");

/// Nothing comes from anywhere but this service, nothing inline runs, nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The same where no script is served: none runs.
pub(crate) const SCRIPTLESS_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

/// What every answer to a browser carries.
pub(crate) const BROWSER_HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// What stands for the present style, script and icon in their addresses, so that browsers may keep them.
pub(crate) fn version(parts: &[&[u8]]) -> String {
    let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    data_encoding::HEXLOWER.encode(&digest[..6])
}

/// The value of a cookie in these headers.
pub(crate) fn cookie<'h>(headers: impl Iterator<Item = &'h str>, wanted: &str) -> Option<&'h str> {
    let mut pairs = headers.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Whether a place lies on this very service.
pub(crate) fn is_local(place: &str) -> bool {
    place.starts_with('/')
        && !place[1..].starts_with(['/', '\\'])
        && place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_on_this_service_follow_a_log_in() {
        assert!(is_local("/") && is_local("/devices/1?live=off"));
        for bad in ["", "//evil", "/\\evil", "https://evil", "/a\r\nset-cookie: x", "/\\", "/a\\b"] {
            assert!(!is_local(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        assert_eq!(cookie(["a=1; xs=2", "s=3"].into_iter(), "s"), Some("3"));
        assert_eq!(cookie(["xs=2; s2=4"].into_iter(), "s"), None);
    }
}

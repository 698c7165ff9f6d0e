//! Queries and forms (`application/x-www-form-urlencoded`), read and written.

/// The value of a key, decoded; the first one counts. Bytes that are no UTF-8 become the replacement character.
pub(crate) fn value(form: &str, key: &str) -> Option<String> {
    let pairs = form.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(name, _)| decode(name) == key).map(|(_, value)| decode(value));
    values.next()
}

/// A number in a query; absent if it is none.
pub(crate) fn number(form: &str, key: &str) -> Option<u64> {
    value(form, key)?.parse().ok()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        out.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
                u8::try_from(digit(*high) * 16 + digit(*low)).unwrap_or_default()
            }
            _ => *first,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A text as it can stand in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_survives_a_query(text in ".{0,40}") {
            prop_assert_eq!(value(&format!("a=1&b={}&b=2", encode(&text)), "b"), Some(text));
        }

        #[test]
        fn no_query_panics(text in ".{0,60}") {
            let _ = value(&text, "a");
            let _ = number(&text, "a");
        }
    }

    #[test]
    fn odd_forms_are_read_as_browsers_write_them() {
        assert_eq!(value("password=a+b%2Bc%", "password").as_deref(), Some("a b+c%"));
        assert_eq!(value("live", "live").as_deref(), Some(""));
        assert_eq!(number("before=-1", "before"), None);
    }
}

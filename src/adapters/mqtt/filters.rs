//! Topic filters that overlap: brokers may deliver a publication once for each subscription that matches (MQTT 5, 3.3.4), and
//! every copy would be an entry. Filters that another one covers are left out. Two that merely cross (`a/+` and `+/b`) stay.

/// The filters that no other one covers, sorted, each once.
pub(super) fn without_covered(mut filters: Vec<String>) -> Vec<String> {
    filters.sort();
    filters.dedup();
    let covered =
        |narrow: &String| filters.iter().any(|wide| wide != narrow && covers(wide, narrow) && !covers(narrow, wide));
    let kept: Vec<String> = filters.iter().filter(|filter| !covered(filter)).cloned().collect();
    kept
}

/// Whether every topic that `narrow` matches is matched by `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    // A leading wildcard doesn't match the broker's own topics (MQTT 5, 4.7.2).
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (exact, Some(other)) if exact == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(filters: &[&str]) -> Vec<String> {
        without_covered(filters.iter().map(|&filter| filter.to_owned()).collect())
    }

    #[test]
    fn covered_filters_are_left_out_and_crossing_ones_stay() {
        assert_eq!(kept(&["patient/+/+", "+/+/+", "patient/bpm/x"]), ["+/+/+"]);
        assert_eq!(kept(&["a/#", "a", "a/b/c", "b"]), ["a/#", "b"]);
        assert_eq!(kept(&["a/+", "+/b"]), ["+/b", "a/+"]);
        assert_eq!(kept(&["#", "$SYS/#"]), ["#", "$SYS/#"]);
        assert_eq!(kept(&["a/+", "a/#"]), ["a/#"]);
        assert_eq!(kept(&["a/b", "a/b"]), ["a/b"]);
    }

    fn matches(filter: &str, topic: &str) -> bool {
        rumqttc::matches(topic, filter)
    }

    proptest! {
        #[test]
        fn no_topic_that_was_wanted_is_missed(
            filters in proptest::collection::vec("([ab+]/){0,3}[ab+#]", 1..6), topic in "([ab]/){0,4}[ab]",
        ) {
            let reduced = without_covered(filters.clone());
            let wanted = filters.iter().any(|filter| matches(filter, &topic));
            prop_assert_eq!(reduced.iter().any(|filter| matches(filter, &topic)), wanted);
        }
    }
}

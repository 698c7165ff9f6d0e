//! What was published against what arrived: the judge of the torture, and the proof that it can find fault.

use std::collections::BTreeMap;

/// How many each device published; its readings are numbered from 0.
pub type Published = BTreeMap<String, u64>;
/// What the receiver shows, in its order: device and text.
pub type Arrived = Vec<(String, String)>;

/// What is wrong.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Published and not there.
    pub lost: u64,
    /// There once more.
    pub duplicates: u64,
    /// Behind a later one of the same device.
    pub out_of_order: u64,
    /// Never published.
    pub strange: u64,
}

/// Compares.
pub fn judge(published: &Published, arrived: &Arrived) -> Verdict {
    let mut verdict = Verdict::default();
    // For each device how often each number came, and the highest so far.
    let mut seen: BTreeMap<&str, (BTreeMap<u64, u64>, Option<u64>)> = BTreeMap::new();
    for (device, text) in arrived {
        let count = published.get(device).copied().unwrap_or_default();
        let Some(number) = number_of(text).filter(|number| *number < count) else {
            verdict.strange += 1;
            continue;
        };
        let (times, highest) = seen.entry(device).or_default();
        let times = times.entry(number).or_default();
        *times += 1;
        if *times > 1 {
            verdict.duplicates += 1;
        } else if highest.is_some_and(|highest| number < highest) {
            verdict.out_of_order += 1;
        }
        *highest = (*highest).max(Some(number));
    }
    for (device, count) in published {
        let there = seen.get(device.as_str()).map_or(0, |(times, _)| times.len() as u64);
        verdict.lost += count - there;
    }
    verdict
}

/// A reading of this number.
pub fn text_of(number: u64) -> String {
    format!("pulse 70 bpm, number {number}")
}

fn number_of(text: &str) -> Option<u64> {
    text.strip_prefix("pulse 70 bpm, number ")?.parse().ok()
}

/// Tampers with a record that is in order, and checks that the judge sees exactly that.
pub fn check_judge(published: &Published, arrived: &Arrived) {
    assert_eq!(judge(published, arrived), Verdict::default(), "the record is not in order");
    let of_one_device = |arrived: &Arrived| {
        let second = (1..arrived.len()).find(|&at| arrived[..at].iter().any(|(device, _)| *device == arrived[at].0));
        let second = second.expect("a device with two readings");
        let first = arrived[..second].iter().rposition(|(device, _)| *device == arrived[second].0);
        (first.expect("its first"), second)
    };
    let tampered = |tamper: &dyn Fn(&mut Arrived)| {
        let mut record = arrived.clone();
        tamper(&mut record);
        judge(published, &record)
    };
    let clean = Verdict::default();
    let lost = tampered(&|record| drop(record.remove(record.len() / 2)));
    assert_eq!(lost, Verdict { lost: 1, ..clean });
    let duplicates = tampered(&|record| record.push(record[record.len() / 2].clone()));
    assert_eq!(duplicates, Verdict { duplicates: 1, ..clean });
    let out_of_order = tampered(&|record| {
        let (first, second) = of_one_device(record);
        record.swap(first, second);
    });
    assert_eq!(out_of_order, Verdict { out_of_order: 1, ..clean });
    let strange = tampered(&|record| {
        let device = record[0].0.clone();
        record.push((device, text_of(u64::MAX)));
        record.push(("nobody".to_owned(), text_of(0)));
    });
    assert_eq!(strange, Verdict { strange: 2, ..clean });
}

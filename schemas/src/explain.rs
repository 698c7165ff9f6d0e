//! Why a message is where it is, and what happens next, when: one ordered chain of reasons.
//!
//! It tells nothing of its own: the destination's part is the [`Decision`] by which the Dispatcher acts, the message's part is its
//! record, and what comes next is a [`Turn`] of the forecast.

use crate::{
    dispatch::{Decision, Mode},
    entry::{EndedBy, EntryState},
    forecast::Turn,
    view::{EntryView, LedgerView, Shown},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What is explained.
    pub entry: Shown,
    /// The time zone of the sentences: the one of the destination's windows.
    pub timezone: String,
    /// The chain: each has to pass before the next matters.
    pub chain: Vec<Step>,
    /// What happens next.
    pub next: Step,
    /// When its life ends if it is not delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Step>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// In words.
    pub what: String,
    /// When it passes or happens, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Step {
    fn new(what: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self { what: what.into(), at }
    }
}

/// What is known about a message that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Its record.
    pub view: &'a EntryView,
    /// Whether there is an agreement with its destination now.
    pub agreed: bool,
    /// Why the agreement that there is can't be used, if so.
    pub broken: Option<&'a str>,
    /// How its destination stands; none while nobody can say.
    pub decision: Option<&'a Decision>,
    /// Whether a courier serves the destination at this moment.
    pub served: bool,
    /// What is foreseen of it, if it is queued.
    pub turn: Option<&'a Turn>,
    /// The earlier message of its device that holds it back, if the agreement has it so.
    pub behind: Option<u64>,
    /// Now.
    pub now: Timestamp,
}

/// Explains a message that waits.
#[must_use]
pub fn waiting(known: &Waiting<'_>, zone: &TimeZone) -> Explanation {
    let view = known.view;
    let mut chain = Vec::new();
    let reason = view.reason.map(|error| format!(" ({error})")).unwrap_or_default();
    let place = &view.entry;
    let next = match view.state {
        EntryState::Held => {
            chain.push(Step::new(format!("it is held{reason}"), None));
            Step::new(format!("nothing, until somebody lets it go on: tidegate outbox release {place}"), None)
        }
        EntryState::Parked => {
            chain.push(Step::new(format!("it is parked: the service refuses it{reason}"), None));
            Step::new(format!("nothing, until somebody looks at it: tidegate outbox retry {place}, or purge"), None)
        }
        EntryState::Dead => {
            chain.push(Step::new(format!("it is a dead letter: the service will never take it{reason}"), None));
            Step::new(format!("nothing, until somebody decides: tidegate outbox retry {place}, or purge"), None)
        }
        _ => queued(known, zone, &mut chain),
    };
    let ends = known.turn.and_then(|turn| turn.ends).map(|(at, by)| ends_at(at, by, known.now, zone));
    Explanation {
        entry: Shown::Waiting(view.clone()),
        timezone: zone.iana_name().unwrap_or("UTC").to_owned(),
        chain,
        next,
        ends,
    }
}

fn queued(known: &Waiting<'_>, zone: &TimeZone, chain: &mut Vec<Step>) -> Step {
    let view = known.view;
    if let Some(broken) = known.broken {
        chain.push(Step::new(format!("its destination can't be used any more: {broken}"), None));
        let name = &view.entry.destination;
        let next = format!("nothing, until that is put right: tidegate destination edit {name}; the message is kept");
        return Step::new(next, None);
    }
    if !known.agreed {
        chain.push(Step::new(
            "its destination has no agreement now (it was removed, or its entry in the config is wrong)",
            None,
        ));
        return Step::new("nothing, until the destination is declared again; the message is kept", None);
    }
    let Some(decision) = known.decision else {
        chain.push(Step::new("the part of the gateway that delivers is being restarted, or is suspended", None));
        return Step::new("it goes on when that part is back: tidegate status", None);
    };
    for reason in decision.chain().iter().filter(|_| !known.served) {
        chain.push(Step::new(reason.sentence(zone), reason.until));
    }
    if view.due_in_ms > 0 {
        let due = SignedDuration::from_millis(i64::try_from(view.due_in_ms).unwrap_or(i64::MAX));
        let at = known.now.saturating_add(due).ok();
        let times = if view.refusals == 1 { "once" } else { "again and again" };
        let why = view.reason.map(|error| format!(" ({error})")).unwrap_or_default();
        chain.push(Step::new(format!("the service refused it {times}{why}: its next try is {}", moment(at, zone)), at));
    }
    if let Some(behind) = known.behind {
        let what = format!(
            "it waits behind {}/{behind} of the same device, which the service refuses",
            view.entry.destination
        );
        chain.push(Step::new(what, None));
    }
    let ahead = known.turn.map_or(0, |turn| turn.ahead);
    if ahead > 0 {
        let messages = if ahead == 1 { "1 message goes".to_owned() } else { format!("{ahead} messages go") };
        let about = if known.turn.is_some_and(|turn| turn.estimated) { "about " } else { "" };
        chain.push(Step::new(format!("{about}{messages} before it"), None));
    }
    let at = known.turn.and_then(|turn| turn.at).filter(|at| *at > known.now);
    if known.served {
        return Step::new("a courier serves its destination now: it is delivered in its turn", at);
    }
    match decision {
        Decision::Go { mode: Mode::Probe } => {
            Step::new("one message is tried now; if it is taken, the others follow", at)
        }
        Decision::Go { mode: Mode::Full } => Step::new("it is delivered in its turn, now", at),
        Decision::Go { mode: Mode::BreakGlass } => Step::new("break-glass messages are delivered now", at),
        Decision::Wait { next_look: Some(look), .. } => {
            let at = at.map_or(*look, |at| at.max(*look));
            Step::new(format!("its turn comes {} at the earliest", moment(Some(at), zone)), Some(at))
        }
        Decision::Wait { next_look: None, .. } => {
            Step::new("nothing by itself: one of the reasons above has to pass", None)
        }
    }
}

fn ends_at(at: Timestamp, by: EndedBy, now: Timestamp, zone: &TimeZone) -> Step {
    if at <= now {
        return Step::new(format!("its life is over: {by}"), Some(at));
    }
    Step::new(format!("if it is not delivered before, it ends {}: {by}", moment(Some(at), zone)), Some(at))
}

/// Explains a message that has ended.
#[must_use]
pub fn ended(view: &LedgerView, zone: &TimeZone) -> Explanation {
    let at = Timestamp::from_millisecond(view.ended_ms).ok();
    let when = moment(at, zone);
    let mut chain = Vec::new();
    let why = match (view.ended_by, view.reason) {
        (Some(by), _) => format!(": {by}"),
        (None, Some(error)) => format!(": {error}"),
        (None, None) => String::new(),
    };
    let what = match view.state {
        EntryState::Delivered if view.receipt => "it was delivered, and the receiver signed for it".to_owned(),
        EntryState::Delivered => "it was delivered".to_owned(),
        EntryState::Expired => format!("it expired{why}"),
        EntryState::Purged => "an operator purged it".to_owned(),
        EntryState::Refused => "it was refused when it came: a limit of the agreement was reached".to_owned(),
        EntryState::Dropped => "it made room for a newer one, as the agreement says".to_owned(),
        state => format!("it was told of as {state:?}{why}").to_lowercase(),
    };
    chain.push(Step::new(format!("{what} ({when})"), at));
    if view.break_glass {
        chain.push(Step::new("it went as break-glass", None));
    }
    Explanation {
        entry: Shown::Ended(view.clone()),
        timezone: zone.iana_name().unwrap_or("UTC").to_owned(),
        chain,
        next: Step::new("nothing: it has ended", None),
        ends: None,
    }
}

fn moment(at: Option<Timestamp>, zone: &TimeZone) -> String {
    at.map_or_else(
        || "some time".to_owned(),
        |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Q").to_string(),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{
        dispatch::{Hindrance, Reason},
        outcome::DeliveryError,
        submission::{Origin, Priority},
    };

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn view(state: EntryState) -> EntryView {
        EntryView {
            entry: "cardiology/42".parse().unwrap(),
            id: crate::id::MessageId::from_random([7; 16]),
            device: "pacemaker".parse().unwrap(),
            state,
            accepted_ms: 0,
            clock_trusted: true,
            age_ms: 60_000,
            origin: Origin::MqttQos1,
            body_bytes: 11,
            content_type: "text/plain".into(),
            reason: None,
            refusals: 0,
            due_in_ms: 0,
            priority: Priority::Normal,
        }
    }

    fn madrid() -> TimeZone {
        TimeZone::get("Europe/Madrid").unwrap()
    }

    #[test]
    fn a_closed_window_comes_with_its_opening_in_the_zone_of_the_windows_and_what_goes_before() {
        let (view, opens) = (view(EntryState::Queued), "2026-11-24T01:00:00Z".parse().unwrap());
        let chain = vec![Reason { hindrance: Hindrance::WindowClosed, until: Some(opens) }];
        let decision = Decision::Wait { chain, next_look: Some(opens) };
        let ends = ("2026-12-07T12:00:00Z".parse().unwrap(), EndedBy::MaxAge);
        let turn =
            Turn { ahead: 3, estimated: false, at: Some("2026-11-24T01:00:09Z".parse().unwrap()), ends: Some(ends) };
        let now = NOW.parse().unwrap();
        let known = Waiting {
            view: &view,
            agreed: true,
            broken: None,
            decision: Some(&decision),
            served: false,
            turn: Some(&turn),
            behind: Some(40),
            now,
        };
        let told = waiting(&known, &madrid());
        let chain: Vec<&str> = told.chain.iter().map(|step| step.what.as_str()).collect();
        assert!(chain[0].contains("closed until 2026-11-24 02:00:00"), "{chain:?}");
        assert!(chain[1].contains("behind cardiology/40"), "{chain:?}");
        assert_eq!(chain[2], "3 messages go before it");
        assert_eq!(told.next.at, turn.at);
        assert!(told.ends.unwrap().what.contains("2026-12-07 13:00:00"));
        // Far back in a long queue.
        let near = Turn { estimated: true, ..turn };
        let told = waiting(&Waiting { turn: Some(&near), ..known }, &madrid());
        assert_eq!(told.chain[2].what, "about 3 messages go before it");
        // While a courier is at work nothing of the destination is in the way.
        let told = waiting(&Waiting { served: true, behind: None, ..known }, &madrid());
        assert_eq!(told.chain.len(), 1);
        assert!(told.next.what.contains("serves its destination now"));
    }

    /// Of a message whose destination has an agreement.
    fn nothing_known(view: &EntryView, now: Timestamp) -> Waiting<'_> {
        let (decision, turn) = (None, None);
        Waiting { view, agreed: true, broken: None, decision, served: false, turn, behind: None, now }
    }

    #[test]
    fn a_broken_destination_is_named_with_its_reason() {
        let (view, now) = (view(EntryState::Queued), NOW.parse().unwrap());
        let broken = Some("destination.windows.timezone: unknown time zone");
        let told = waiting(&Waiting { agreed: false, broken, ..nothing_known(&view, now) }, &madrid());
        assert!(told.chain[0].what.contains("unknown time zone"), "{told:?}");
        assert!(told.next.what.contains("tidegate destination edit cardiology"), "{told:?}");
    }

    #[test]
    fn what_needs_a_person_says_what_to_type() {
        for (state, word) in [(EntryState::Held, "release"), (EntryState::Parked, "retry"), (EntryState::Dead, "retry")]
        {
            let view = EntryView { reason: Some(DeliveryError::Status(422)), ..view(state) };
            let now = NOW.parse().unwrap();
            let known = nothing_known(&view, now);
            let told = waiting(&known, &madrid());
            assert!(told.next.what.contains(&format!("tidegate outbox {word} cardiology/42")), "{told:?}");
            assert!(told.chain[0].what.contains("422"), "{told:?}");
        }
    }
}

//! What an answer that is no success means. The order matters: a status of 5xx counts before an error code, because homeservers
//! send `M_UNKNOWN` with theirs; and what is no Matrix answer at all (a proxy's page) is an outage, never a refusal.

use super::http::HttpError;
use ruma::api::error::{Error as MatrixAnswer, ErrorBody, ErrorKind, FromHttpResponseError, RetryAfter};
use std::time::Duration;
use tidegate_actors::ports::room::RoomError;
use tidegate_schemas::onion::without_onion_addresses;

/// An error of ruma's client over our transport.
pub(super) type ClientError = ruma_client::Error<HttpError, MatrixAnswer>;

/// The wait when a homeserver, or a proxy before it, limits us and doesn't say for how long.
const LIMITED_DEFAULT: Duration = Duration::from_secs(30);
/// What is shown of a homeserver's own words, in characters.
const WORDS_MAX: usize = 200;

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The access token is refused: log in.
    Token,
    /// Not in the room, no power, or a wrong password: depends on what was asked.
    Forbidden(String),
    /// There is no such thing.
    NotFound,
    /// The alias is taken.
    RoomInUse,
    /// The homeserver doesn't know this room version.
    RoomVersion,
    /// For the Reporter to deal with.
    Room(RoomError),
}

impl From<RoomError> for Failure {
    fn from(error: RoomError) -> Self {
        Self::Room(error)
    }
}

impl Failure {
    /// What the Reporter hears when nothing more can be done here.
    pub fn into_room_error(self, doing: &str) -> RoomError {
        match self {
            Self::Room(error) => error,
            Self::Token => RoomError::Refused(format!("{doing}: it refuses the access token that it gave")),
            Self::Forbidden(words) => RoomError::Refused(format!("{doing}: {words}")),
            Self::NotFound => RoomError::Refused(format!("{doing}: it says that there is no such thing")),
            Self::RoomInUse => RoomError::Refused(format!("{doing}: it says that the alias is taken")),
            Self::RoomVersion => RoomError::Refused(format!("{doing}: it knows no room version that we do")),
        }
    }
}

/// What this error means.
pub(super) fn judge(error: &ClientError) -> Failure {
    use ruma_client::Error;
    match error {
        Error::Response(error) => Failure::Room(RoomError::Unavailable(error.to_string())),
        Error::FromHttpResponse(FromHttpResponseError::Server(answer)) => judge_answer(answer),
        Error::FromHttpResponse(_) => {
            Failure::Room(RoomError::Unavailable("what answered is no Matrix homeserver".to_owned()))
        }
        Error::AuthenticationRequired => Failure::Token,
        _ => Failure::Room(RoomError::Refused("a request to it could not be made".to_owned())),
    }
}

fn judge_answer(answer: &MatrixAnswer) -> Failure {
    let status = answer.status_code;
    if status.is_server_error() {
        return Failure::Room(RoomError::Unavailable(format!(
            "it has a problem of its own (HTTP {})",
            status.as_u16()
        )));
    }
    let words = in_words(answer);
    match answer.error_kind() {
        Some(ErrorKind::LimitExceeded(limit)) => {
            let wait = match &limit.retry_after {
                Some(RetryAfter::Delay(wait)) => *wait,
                // A date would need the homeserver's clock to agree with ours.
                _ => LIMITED_DEFAULT,
            };
            RoomError::Limited { wait }.into()
        }
        _ if status.as_u16() == 429 => RoomError::Limited { wait: LIMITED_DEFAULT }.into(),
        Some(ErrorKind::UnknownToken(_) | ErrorKind::MissingToken) => Failure::Token,
        Some(ErrorKind::Forbidden) => Failure::Forbidden(words),
        Some(ErrorKind::NotFound) => Failure::NotFound,
        Some(ErrorKind::RoomInUse) => Failure::RoomInUse,
        Some(ErrorKind::UnsupportedRoomVersion) => Failure::RoomVersion,
        Some(_) => RoomError::Refused(words).into(),
        // A proxy's page, or something else that is no homeserver.
        None => {
            RoomError::Unavailable(format!("what answered is no Matrix homeserver (HTTP {})", status.as_u16())).into()
        }
    }
}

/// The homeserver's own words, cut, without what could disturb a terminal, and without onion addresses: where the homeserver is
/// an onion service, every user id ends with one (PR-4).
fn in_words(answer: &MatrixAnswer) -> String {
    match &answer.body {
        ErrorBody::Standard(body) => {
            // Before it is cut: half of an address says as much as all of it.
            let words = without_onion_addresses(&format!("{} {}", body.kind.errcode(), body.message));
            let words: String = words.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
            words.trim_end().to_owned()
        }
        _ => format!("HTTP {}", answer.status_code.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use ruma::api::EndpointError as _;

    fn judged(status: u16, body: &str) -> Failure {
        let answer = http::Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap();
        judge_answer(&MatrixAnswer::from_http_response(answer))
    }

    fn limited(seconds: u64) -> Failure {
        RoomError::Limited { wait: Duration::from_secs(seconds) }.into()
    }

    #[test]
    fn each_answer_is_told_apart() {
        for (status, body, failure) in [
            (429, r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":5000}"#, limited(5)),
            (429, r#"{"errcode":"M_LIMIT_EXCEEDED","error":"x"}"#, limited(30)),
            (429, "slow down", limited(30)),
            (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x","soft_logout":true}"#, Failure::Token),
            (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x"}"#, Failure::Token),
            (401, r#"{"errcode":"M_MISSING_TOKEN","error":"x"}"#, Failure::Token),
            (404, r#"{"errcode":"M_NOT_FOUND","error":"Room alias not found"}"#, Failure::NotFound),
            (400, r#"{"errcode":"M_ROOM_IN_USE","error":"x"}"#, Failure::RoomInUse),
            (400, r#"{"errcode":"M_UNSUPPORTED_ROOM_VERSION","error":"x"}"#, Failure::RoomVersion),
            (
                403,
                r#"{"errcode":"M_FORBIDDEN","error":"not in room"}"#,
                Failure::Forbidden("M_FORBIDDEN not in room".into()),
            ),
        ] {
            assert_eq!(judged(status, body), failure, "{status} {body}");
        }
    }

    #[test]
    fn a_problem_of_the_homeserver_or_of_a_proxy_is_an_outage() {
        let bodies = [
            (500, r#"{"errcode":"M_UNKNOWN","error":"Internal server error"}"#),
            (502, "<html>"),
            (404, "<html>"),
            (302, ""),
        ];
        for (status, body) in bodies {
            assert!(matches!(judged(status, body), Failure::Room(RoomError::Unavailable(_))), "{status} {body}");
        }
    }

    #[test]
    fn the_homeservers_words_name_no_onion_address() {
        let name = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid";
        let words = format!("{} @gateway:{name}.onion not in room #tidegate:{name}.onion", "x".repeat(WORDS_MAX - 60));
        let body = format!(r#"{{"errcode":"M_FORBIDDEN","error":"{words}"}}"#);
        let Failure::Forbidden(words) = judged(403, &body) else { panic!("not forbidden") };
        assert!(words.contains("@gateway:[onion address]") && !words.contains(&name[..8]), "{words}");
    }

    #[test]
    fn what_will_never_be_taken_is_a_refusal_in_the_homeservers_words() {
        let long = format!(r#"{{"errcode":"M_TOO_LARGE","error":"event too large\u001b[2J{}"}}"#, "x".repeat(1_000));
        let Failure::Room(RoomError::Refused(words)) = judged(413, &long) else { panic!("not a refusal") };
        assert!(words.starts_with("M_TOO_LARGE event too large[2J") && words.len() < 250, "{words}");
        assert!(matches!(judged(400, r#"{"errcode":"M_BAD_JSON","error":"x"}"#), Failure::Room(RoomError::Refused(_))));
    }
}

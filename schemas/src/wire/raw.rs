//! The device's bytes and content type, as they are. Device and label don't travel: a service that wants them takes CloudEvents.

use super::decode::{ReceivedEvent, WireProblem};
use crate::{
    id::MessageId,
    submission::{BODY_BYTES_MAX, Payload},
};

pub(super) fn read(
    id: Option<MessageId>,
    content_type: String,
    body: &bytes::Bytes,
) -> Result<ReceivedEvent, WireProblem> {
    if body.len() > BODY_BYTES_MAX {
        return Err(WireProblem::TooLarge);
    }
    Ok(ReceivedEvent { id, device: None, label: None, content_type, body: Payload::new(body.clone()) })
}

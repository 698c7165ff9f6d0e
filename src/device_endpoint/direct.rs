//! `PUT /v1/messages/{destination}`: any body of any type, to the destination that the path names.

use super::{
    App, admit,
    credentials::Caller,
    submit::{allowed, redelivery, refusal, registry, speaks_for, submit, text_header},
};
use crate::admin::{body, problem::HttpProblem};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CONTENT_TYPE,
    web::{Data, Path, Payload as Incoming, Query},
};
use serde::Deserialize;
use tidegate_schemas::{
    id::{DestinationId, DeviceId},
    route::DirectReading,
    submission::{BODY_BYTES_MAX, Payload, QuarantineReason},
};

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// Who sends; may be left out by a device with credentials.
    device: Option<String>,
}

/// Takes a message for the destination of the path.
pub(super) async fn put(
    app: Data<App>,
    request: HttpRequest,
    destination: Path<String>,
    query: Query<Parameters>,
    body: Incoming,
) -> Result<HttpResponse, HttpProblem> {
    let caller = admit(&app, &request)?;
    let device = device(&caller, query.into_inner().device)?;
    let redelivery = redelivery(&request)?;
    let registry = registry(&app).await?;
    let known = destination.parse().ok().filter(|id: &DestinationId| registry.intake(id).is_some());
    let destination = known.ok_or_else(|| refusal(QuarantineReason::UnknownDestination))?;
    let payload = Payload::new(body::read(body, BODY_BYTES_MAX).await?);
    let content_type = text_header(&request, &CONTENT_TYPE);
    let reading = DirectReading { device, destination, payload, content_type, redelivery };
    let submission = reading.submission(&allowed(&caller, &registry)).map_err(refusal)?;
    submit(&app, &registry, submission).await
}

fn device(caller: &Caller, named: Option<String>) -> Result<DeviceId, HttpProblem> {
    let named = named.map(|text| text.parse::<DeviceId>()).transpose();
    let named = named.map_err(|error| HttpProblem::bad_request(format!("device: {error}")))?;
    match (caller, named) {
        (_, Some(device)) => speaks_for(caller, &device).map(|()| device),
        (Caller::Device(credential), None) => Ok(credential.device.clone()),
        (Caller::Trusted, None) => Err(HttpProblem::bad_request("say who sends: ?device=NAME")),
    }
}

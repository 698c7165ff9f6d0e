//! Changing agreements: a form with the main keys, a preview of what the change would mean, and only then the change. Made for
//! destinations that were made here or through the API; one of a file is shown with its place.
//!
//! The forms work like the API's conditional requests (RFC 9110 section 13): each carries the version that it was made of, and one that is
//! of another version changes nothing. Then both are shown, what is agreed now and what was typed, and it can be looked at anew.

mod draft;
mod pages;

use self::{
    draft::Draft,
    pages::{Conflict, Editing},
};
use super::{
    frame::{self, Refused},
    guard::{Form, Visitor},
};
use crate::admin::{
    App,
    agreements::{self, Fate},
    destinations,
    problem::HttpProblem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use tidegate_schemas::{
    condition::Condition,
    config::file::DestinationSource,
    id::DestinationId,
    messages::registry::{ChangeError, Expect, PutDestination, PutWindows, WrittenAgreement},
    window::RawWindows,
};

/// Where destinations are.
const HERE: &str = "/console/destinations";
/// Where a new one is made.
pub(super) const ADD: &str = "/console/add-destination";

/// The form, or where the agreement is to be changed instead.
pub(super) async fn edit(app: Data<App>, visitor: Visitor, id: Path<String>) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    let written = agreements::written(&app, &id).await?;
    if written.source != DestinationSource::Api || !visitor.administers() {
        return Ok(pages::shown(visitor, &id, &written));
    }
    Ok(Editing::of(&id, &written).page(visitor))
}

/// The form again, as it was sent: from the preview back.
pub(super) async fn edit_again(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
    form: Form,
) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    let written = changeable(&app, &id).await?;
    let draft = Draft::sent(|name| form.value(name));
    let version = version(&form).unwrap_or(written.version);
    Ok(Editing { id: Some(id), version: Some(version), draft }.page(visitor))
}

/// What the change would mean, or what is wrong with it.
pub(super) async fn preview(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
    form: Form,
) -> Result<HttpResponse, Refused> {
    change(&app, visitor, &destinations::name(&id)?, &form, true).await
}

/// The change.
pub(super) async fn save(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
    form: Form,
) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    if form.value("new").is_some() {
        return make(&app, visitor, Some(id), &form, false).await;
    }
    change(&app, visitor, &id, &form, false).await
}

async fn change(
    app: &App,
    visitor: Visitor,
    id: &DestinationId,
    form: &Form,
    dry_run: bool,
) -> Result<HttpResponse, Refused> {
    let mut draft = Draft::sent(|name| form.value(name));
    // One that went meanwhile, or is declared now, is told as such: there is nothing to compare with.
    let written = changeable(app, id).await?;
    let version = version(form).ok_or_else(|| HttpProblem::bad_request("the form has no version: load it again"))?;
    if written.version != version {
        return Ok(Conflict { id, written: &written, made_of: version, draft }.page(visitor));
    }
    let Some(raw) = draft.made_of(&written.keys) else {
        return Ok(Editing { id: Some(id.clone()), version: Some(version), draft }.page(visitor));
    };
    let message = PutDestination {
        destination: id.clone(),
        raw: Box::new(raw),
        expect: Expect::Present,
        condition: Condition::version(version),
        dry_run,
    };
    match agreements::make(app, message).await {
        Ok(made) if dry_run => Ok(pages::preview(
            app,
            visitor,
            &Editing { id: Some(id.clone()), version: Some(version), draft },
            &made.view,
        )),
        Ok(_) => Ok(frame::see_other(&format!("{HERE}/{id}?done=saved"))),
        Err(problem) if problem.status == 412 => {
            // Somebody came between the look above and the change.
            let written = changeable(app, id).await?;
            Ok(Conflict { id, written: &written, made_of: version, draft }.page(visitor))
        }
        Err(problem) if problem.status == 422 => {
            draft.note(&problem.errors);
            Ok(Editing { id: Some(id.clone()), version: Some(version), draft }.page(visitor))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// The form of a new one.
pub(super) async fn add(visitor: Visitor) -> Result<HttpResponse, Refused> {
    Ok(Editing::new().page(visitor))
}

/// What a new one would mean; or its form again, on the way back from there.
pub(super) async fn add_preview(
    app: Data<App>,
    visitor: Visitor,
    form: Form,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    if request.query_string() == "again" {
        let mut draft = Draft::sent(|name| form.value(name));
        draft.name = form.value("name").unwrap_or_default();
        return Ok(Editing { id: None, version: None, draft }.page(visitor));
    }
    make(&app, visitor, None, &form, true).await
}

async fn make(
    app: &App,
    visitor: Visitor,
    id: Option<DestinationId>,
    form: &Form,
    dry_run: bool,
) -> Result<HttpResponse, Refused> {
    let mut draft = Draft::sent(|name| form.value(name));
    draft.name = id.map_or_else(|| form.value("name").unwrap_or_default(), |id| id.to_string());
    let name = draft.name.trim().parse::<DestinationId>();
    if let Err(error) = &name {
        draft.wrong("name", error.to_string());
    }
    let raw = draft.made_of(&draft::Keys::new());
    let (Ok(id), Some(raw)) = (name, raw) else {
        return Ok(Editing { id: None, version: None, draft }.page(visitor));
    };
    let message = PutDestination {
        destination: id.clone(),
        raw: Box::new(raw),
        expect: Expect::Either,
        condition: Condition::absent(),
        dry_run,
    };
    match agreements::make(app, message).await {
        Ok(made) if dry_run => {
            Ok(pages::preview(app, visitor, &Editing { id: None, version: None, draft }, &made.view))
        }
        Ok(_) => Ok(frame::see_other(&format!("{HERE}/{id}?done=saved"))),
        Err(problem) if matches!(problem.status, 409 | 412 | 422) => {
            if problem.status == 422 {
                draft.note(&problem.errors);
            } else {
                draft.wrong("name", format!("there is a destination {id} already"));
            }
            Ok(Editing { id: None, version: None, draft }.page(visitor))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Asks whether it is meant, with what it means.
pub(super) async fn confirm_removal(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    let version = changeable(&app, &id).await?.version;
    let made = agreements::take_away(&app, id.clone(), Condition::version(version), true, None).await?;
    Ok(pages::removal(visitor, &id, Some(version), &made.view))
}

/// Removes it. What a purge did not get to within its time is asked for again.
pub(super) async fn remove(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
    form: Form,
) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    let fate = match form.value("queued").as_deref() {
        Some("hold") => Some(Fate::Hold),
        Some("purge") => Some(Fate::Purge),
        _ => None,
    };
    let condition = version(&form).map(Condition::version).unwrap_or_default();
    let made = agreements::take_away(&app, id.clone(), condition, false, fate).await?;
    if made.view.purged.is_some_and(|purged| purged > 0 && purged < made.view.waiting.unwrap_or(0)) {
        return Ok(pages::removal(visitor, &id, None, &made.view));
    }
    Ok(frame::see_other(&format!("{HERE}?done=removed")))
}

/// Asks whether it is meant, with what it means.
pub(super) async fn confirm_reset(app: Data<App>, visitor: Visitor, id: Path<String>) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    let version = changeable(&app, &id).await?.version;
    let made = destinations::put_windows(&app, no_windows(&id, Some(version), true)).await?;
    Ok(pages::reset(&app, visitor, &id, version, &made.view))
}

/// No windows from now on: always open.
pub(super) async fn reset(app: Data<App>, id: Path<String>, form: Form) -> Result<HttpResponse, Refused> {
    let id = destinations::name(&id)?;
    destinations::put_windows(&app, no_windows(&id, version(&form), false)).await?;
    Ok(frame::see_other(&format!("{HERE}/{id}?done=saved")))
}

fn no_windows(id: &DestinationId, version: Option<u64>, dry_run: bool) -> PutWindows {
    let condition = version.map(Condition::version).unwrap_or_default();
    PutWindows { destination: id.clone(), windows: RawWindows::default(), condition, dry_run }
}

/// The version that a form is of.
fn version(form: &Form) -> Option<u64> {
    form.value("version")?.parse().ok()
}

/// The agreement, if it can be changed here.
async fn changeable(app: &App, id: &DestinationId) -> Result<WrittenAgreement, HttpProblem> {
    let written = agreements::written(app, id).await?;
    if written.source == DestinationSource::Api {
        return Ok(written);
    }
    Err(ChangeError::Declared { id: id.clone(), source_of: written.source }.into())
}

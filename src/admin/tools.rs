//! Long work on the outbox: check, backup, compact; and counts by age.
//!
//! The answer to long work is a row of JSON lines: `{"progress":{"done","of"}}` every second, and at the end `{"result":...}` or
//! `{"problem":...}`. What is refused within a moment gets its status and a problem, as everywhere. Work that was begun goes on when
//! its asker has gone.
//!
//! A backup holds the bodies of all messages, so it never goes through this endpoint: the gateway writes it to the folder
//! [`BACKUP_FOLDER`] of its state folder, and the answer names it.

use crate::{
    adapters::export_file::{ExportFile, begin_backup, header, keep_newest},
    admin::{App, access::ask_within, problem::HttpProblem},
};
use actix_web::{
    HttpResponse,
    web::{Bytes, Data, Json, Query},
};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use std::{future::Future, io, path::PathBuf, pin::Pin, time::Duration};
use tidegate_schemas::{
    export::Header,
    messages::{
        outbox::StoreError,
        tools::{Check, Compact, CountStats, Done, Export, ExportFailed, Progress, Stats},
    },
};

/// Where backups lie, in the state folder.
pub const BACKUP_FOLDER: &str = "backups";
/// Backups that are kept if the request says nothing.
pub const BACKUPS_KEPT: usize = 3;
/// Within this long a refusal gets its status.
const AT_ONCE: Duration = Duration::from_millis(300);
/// Between two lines about progress.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long such work may take.
const WORK_LIMIT: Duration = Duration::from_secs(24 * 3_600);
/// How long counting may take: it reads all entries.
const COUNT_LIMIT: Duration = Duration::from_secs(60);

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<T> {
    /// How far it is.
    Progress(Done),
    /// It is done.
    Result(T),
    /// It could not be done.
    Problem(HttpProblem),
}

/// How many backups are kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    /// The newest so many; 0 removes none.
    keep: Option<usize>,
}

/// A backup that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// The file, on the gateway's machine.
    pub file: PathBuf,
    /// Records in it.
    pub records: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Older backups that were removed.
    pub removed: usize,
}

/// Reads everything, and compares it with the counters.
pub(super) async fn check(app: Data<App>) -> Result<HttpResponse, HttpProblem> {
    let progress = Progress::default();
    let message = Check { progress: progress.clone() };
    told(progress, async move { Ok(ask_within(app.reach.look().access.check.as_ref(), message, WORK_LIMIT).await??) })
        .await
}

/// Writes the outbox anew, in as little room as it takes.
pub(super) async fn compact(app: Data<App>) -> Result<HttpResponse, HttpProblem> {
    let progress = Progress::default();
    let message = Compact { progress: progress.clone() };
    told(progress, async move { Ok(ask_within(app.reach.look().access.compact.as_ref(), message, WORK_LIMIT).await??) })
        .await
}

/// Writes everything to a file in the state folder.
pub(super) async fn backup(app: Data<App>, keep: Query<Keep>) -> Result<HttpResponse, HttpProblem> {
    let progress = Progress::default();
    let (shown, keep) = (progress.clone(), keep.keep.unwrap_or(BACKUPS_KEPT));
    // A task of its own: a file that was begun is ended, or removed, also when the asker has gone.
    let writing = actix_web::rt::spawn(async move { write_backup(&app, progress, keep).await });
    told(shown, async move { writing.await.unwrap_or_else(|_| Err(HttpProblem::restarting())) }).await
}

/// Counts what waits, by age.
pub(super) async fn stats(app: Data<App>) -> Result<Json<Stats>, HttpProblem> {
    Ok(Json(ask_within(app.reach.look().access.count_stats.as_ref(), CountStats, COUNT_LIMIT).await??))
}

async fn write_backup(app: &App, progress: Progress, keep: usize) -> Result<BackedUp, HttpProblem> {
    let folder = app.state_dir.join(BACKUP_FOLDER);
    let now = app.clock.now();
    let (name, file) = begin_backup(&folder, now).map_err(|error| output_failed(&error))?;
    let records = match export(app, &file, header(now), progress).await {
        Ok(records) => records,
        Err(problem) => {
            file.discard();
            return Err(problem);
        }
    };
    let path = folder.join(name);
    let ended = tokio::task::spawn_blocking(move || {
        let bytes = file.finish()?;
        let removed = if keep == 0 { 0 } else { keep_newest(&folder, keep)? };
        Ok((bytes, removed))
    });
    let ended = ended.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    let (bytes, removed) = ended.map_err(|error| output_failed(&error))?;
    tracing::info!(file = %path.display(), bytes, "a backup of the outbox was written");
    Ok(BackedUp { file: path, records, bytes, removed })
}

async fn export(app: &App, file: &ExportFile, header: Header, progress: Progress) -> Result<u64, HttpProblem> {
    let to = Box::new(file.writer().map_err(|error| output_failed(&error))?);
    let message = Export { to, header, progress };
    let exported = ask_within(app.reach.look().access.export.as_ref(), message, WORK_LIMIT).await?;
    exported.map(|exported| exported.records).map_err(|failed| match failed {
        ExportFailed::Store(error) => error.into(),
        ExportFailed::Output(error) => output_failed(&io::Error::other(error)),
    })
}

/// The words of the file system stay in the log: they may name paths.
fn output_failed(error: &io::Error) -> HttpProblem {
    tracing::warn!(%error, "a backup of the outbox could not be written");
    match error.kind() {
        io::ErrorKind::AlreadyExists => HttpProblem::unavailable("a backup of this very second exists: ask again"),
        io::ErrorKind::StorageFull => StoreError::Full.into(),
        _ => HttpProblem::unavailable("the backup could not be written; see the gateway's log"),
    }
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, HttpProblem>>>>;

/// Answers with how far the work is, and what comes of it.
async fn told<T: Serialize + 'static>(
    progress: Progress,
    work: impl Future<Output = Result<T, HttpProblem>> + 'static,
) -> Result<HttpResponse, HttpProblem> {
    let mut work: Work<T> = Box::pin(work);
    let lines = match tokio::time::timeout(AT_ONCE, &mut work).await {
        Ok(done) => stream::iter(vec![line(&Told::Result(done?))]).left_stream(),
        Err(_) => stream::unfold(Some((work, progress)), next_line).right_stream(),
    };
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines))
}

async fn next_line<T: Serialize>(
    state: Option<(Work<T>, Progress)>,
) -> Option<(io::Result<Bytes>, Option<(Work<T>, Progress)>)> {
    let (mut work, progress) = state?;
    match tokio::time::timeout(TELL_EVERY, &mut work).await {
        Err(_) => Some((line(&Told::<T>::Progress(progress.look())), Some((work, progress)))),
        Ok(Ok(result)) => Some((line(&Told::Result(result)), None)),
        Ok(Err(problem)) => Some((line(&Told::<T>::Problem(problem)), None)),
    }
}

fn line<T: Serialize>(told: &Told<T>) -> io::Result<Bytes> {
    let mut text = serde_json::to_vec(told)?;
    text.push(b'\n');
    Ok(text.into())
}

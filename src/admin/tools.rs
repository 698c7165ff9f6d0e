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
use schemars::JsonSchema;
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
pub const COUNT_LIMIT: Duration = Duration::from_secs(60);

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "{T}Told")]
pub enum Told<T> {
    /// How far it is.
    Progress(Done),
    /// It is done.
    Result(T),
    /// It could not be done.
    Problem(HttpProblem),
}

/// How many backups are kept.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    /// The newest so many; 0 removes none.
    keep: Option<usize>,
}

/// A backup that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Counts what waits, by age. Refused while that is being done for somebody else.
pub(super) async fn stats(app: Data<App>) -> Result<Json<Stats>, HttpProblem> {
    count(&app).await.map(Json)
}

/// Counts what waits, by age.
pub(crate) async fn count(app: &App) -> Result<Stats, HttpProblem> {
    Ok(ask_within(app.reach.look().access.count_stats.as_ref(), CountStats, COUNT_LIMIT).await??)
}

async fn write_backup(app: &App, progress: Progress, keep: usize) -> Result<BackedUp, HttpProblem> {
    let Ok(_only) = app.backing_up.try_lock() else {
        let what = "a backup is being written already: try again when that has ended";
        return Err(StoreError::Refused(what.into()).into());
    };
    let folder = app.state_dir.join(BACKUP_FOLDER);
    let now = app.clock.now();
    let begun = folder.clone();
    let (name, file) = with_files(move || begin_backup(&begun, now)).await?;
    let path = folder.join(&name);
    let records = export(app, &file, header(now), progress).await?;
    let (bytes, removed) = with_files(move || {
        let bytes = file.finish()?;
        let (removed, pruned) = keep_newest(&folder, keep, &name);
        if let Err(error) = pruned {
            tracing::warn!(%error, removed, "the backup is written, but not all older ones could be removed");
        }
        Ok((bytes, removed))
    })
    .await?;
    tracing::info!(file = %path.display(), bytes, "a backup of the outbox was written");
    Ok(BackedUp { file: path, records, bytes, removed })
}

async fn export(app: &App, file: &ExportFile, header: Header, progress: Progress) -> Result<u64, HttpProblem> {
    let to = Box::new(file.writer().map_err(|error| output_failed(&error))?);
    let message = Export { to, free_bytes: Box::new(file.free_bytes()), header, progress };
    let exported = ask_within(app.reach.look().access.export.as_ref(), message, WORK_LIMIT).await?;
    exported.map(|exported| exported.records).map_err(export_failed)
}

fn export_failed(failed: ExportFailed) -> HttpProblem {
    match failed {
        ExportFailed::Store(error) => error.into(),
        ExportFailed::Output { kind, reason } => output_failed(&io::Error::new(kind, reason)),
    }
}

/// Works on files, on a thread for that.
async fn with_files<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, HttpProblem> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    done.map_err(|error| output_failed(&error))
}

/// The words of the file system stay in the log: they may name paths.
fn output_failed(error: &io::Error) -> HttpProblem {
    tracing::warn!(%error, "a backup of the outbox could not be written");
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            StoreError::Refused("a backup of this very second exists: ask again".into()).into()
        }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{
        adapters::{system_clock::SystemClock, system_entropy::SystemEntropy},
        admin::{
            access::{Access, Reach, Situation},
            guard::wrong_tokens,
            rule::Rules,
            token::{AdminToken, KnownTokens},
        },
        audit::AuditLog,
    };
    use actix::{Actor, Context, Handler, ResponseFuture};
    use std::{collections::BTreeSet, fs, path::Path, sync::Arc};
    use tidegate_schemas::messages::tools::Exported;
    use tokio::{
        sync::{Mutex, Semaphore},
        time::Instant,
    };

    /// Writes a byte for each permit that it gets, and fails as it is told.
    struct Exporting {
        gate: Arc<Semaphore>,
        fails: Option<ExportFailed>,
    }

    impl Actor for Exporting {
        type Context = Context<Self>;
    }

    impl Handler<Export> for Exporting {
        type Result = ResponseFuture<Result<Exported, ExportFailed>>;
        fn handle(&mut self, mut message: Export, _: &mut Self::Context) -> Self::Result {
            let (gate, fails) = (Arc::clone(&self.gate), self.fails.take());
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                message.to.write_all(b"x").unwrap();
                fails.map_or(Ok(Exported { records: 1 }), Err)
            })
        }
    }

    fn app(state_dir: &Path, gate: &Arc<Semaphore>, fails: Option<ExportFailed>) -> App {
        let export = Exporting { gate: Arc::clone(gate), fails }.start().recipient();
        let access = Access { export: Some(export), ..Access::default() };
        App {
            reach: Reach::new(move || Situation { access: access.clone(), ..Situation::default() }),
            reloader: None,
            drain: Arc::default(),
            clock: Arc::new(SystemClock::default()),
            tokens: KnownTokens::open(AdminToken::open_or_create(state_dir, &SystemEntropy).unwrap(), state_dir)
                .unwrap(),
            rules: Rules::default(),
            audit: AuditLog::in_folder(state_dir, 1, Arc::new(SystemClock::default())),
            hosts: BTreeSet::new(),
            wrong_tokens: wrong_tokens(),
            console: crate::console::Console::new(Arc::new(SystemEntropy)),
            started: Instant::now(),
            state_dir: state_dir.to_owned(),
            backing_up: Mutex::default(),
        }
    }

    fn backups(state_dir: &Path) -> usize {
        fs::read_dir(state_dir.join(BACKUP_FOLDER)).unwrap().count()
    }

    #[actix::test]
    async fn a_second_backup_is_refused_while_one_is_written_which_goes_on() {
        let state = tempfile::tempdir().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let app = app(state.path(), &gate, None);
        let second = async {
            let refused = write_backup(&app, Progress::default(), 3).await.unwrap_err();
            gate.add_permits(1);
            refused
        };
        let (first, second) = tokio::join!(write_backup(&app, Progress::default(), 3), second);
        assert_eq!((second.status, second.kind.as_str()), (409, "urn:tidegate:problem:outbox"));
        let first = first.unwrap();
        assert_eq!((first.records, first.bytes, first.file.metadata().unwrap().len()), (1, 1, 1));
        assert_eq!(backups(state.path()), 1);
    }

    #[actix::test]
    async fn a_disk_that_fills_is_told_as_such_and_nothing_is_left() {
        let full = ExportFailed::Output { kind: io::ErrorKind::StorageFull, reason: "no space".into() };
        let no_room = ExportFailed::Store(StoreError::Refused("no room".into()));
        for (fails, status) in [(full, 507), (no_room, 409)] {
            let state = tempfile::tempdir().unwrap();
            let app = app(state.path(), &Arc::new(Semaphore::new(1)), Some(fails));
            assert_eq!(write_backup(&app, Progress::default(), 3).await.unwrap_err().status, status);
            assert_eq!(backups(state.path()), 0);
        }
    }

    #[actix::test]
    async fn a_backup_that_is_written_is_a_success_whatever_becomes_of_older_ones() {
        let state = tempfile::tempdir().unwrap();
        // It can't be removed as a file is.
        fs::create_dir_all(state.path().join(BACKUP_FOLDER).join("outbox-19700101T000000Z.tidegate")).unwrap();
        let app = app(state.path(), &Arc::new(Semaphore::new(1)), None);
        let written = write_backup(&app, Progress::default(), 1).await.unwrap();
        assert!(written.removed == 0 && written.file.exists());
    }
}

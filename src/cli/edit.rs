//! `tidegate destination edit`: an agreement changed in an editor or from a file, of the version that was read and of no other.
//!
//! What is read has no onion address: the present one stays where none is written. The change is bound to the version that was read
//! (`If-Match`, RFC 9110 section 13.1.1), the preview and the change alike: when somebody else changes it meanwhile nothing happens, and
//! the text stays where it was written.

use super::{
    Global,
    admin_client::AdminClient,
    agreement::{changed, destination_of, lines},
    exit::Failure,
    output,
};
use crate::adapters::system_entropy::SystemEntropy;
use clap::Args;
use http::Method;
use serde_json::{Map, Value};
use std::{
    env, fs,
    io::{self, BufRead as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tidegate_actors::ports::entropy::Entropy as _;
use tidegate_schemas::{
    config::{file::DestinationSource, raw::RawDestination},
    history::Canonical,
    id::DestinationId,
    view::{ChangeView, DestinationView},
};

/// What is to be changed, and how.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --file, $VISUAL or $EDITOR (else vi) opens the agreement in TOML; then you see what it would mean, and are asked.
The onion address is not shown, and stays unless you write one."
)]
pub struct Edit {
    /// Its name
    name: DestinationId,
    /// All of the destination, in TOML or as JSON; - is stdin [default: an editor]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only say what it would mean
    #[arg(long)]
    dry_run: bool,
}

/// What was read: the keys, and the tag of their version.
struct Read {
    path: String,
    keys: Map<String, Value>,
    tag: String,
}

/// Changes one.
pub(super) async fn edit(global: &Global, client: &AdminClient, edit: Edit) -> Result<(), Failure> {
    let path = format!("/api/v1/destinations/{}", edit.name);
    let (keys, tag) = client.get_tagged(&format!("{path}/agreement")).await?;
    let read = Read { path, keys, tag };
    if let Some(file) = &edit.file {
        let view = read.put(client, &destination_of(file)?, edit.dry_run).await?;
        return changed(global, &view);
    }
    // One of a file would be refused after all the typing. One that can't be used is not shown so, and can be put right.
    if let Ok(DestinationView { source, .. }) = client.get::<DestinationView>(&read.path).await
        && source != DestinationSource::Api
    {
        return Err(Failure::failed(format!(
            "{} is declared in {source}: change it there, then `tidegate reload`",
            edit.name
        )));
    }
    let text = text(&edit.name, &read)?;
    let file = write(&edit.name, &text)?;
    let view = by_editor(client, &read, &file, edit.dry_run).await;
    match view {
        Ok(Some(view)) => {
            // It is in force, or was shown: the text has served.
            let _ = fs::remove_file(&file);
            if edit.dry_run { Ok(()) } else { changed(global, &view) }
        }
        Ok(None) => {
            let _ = fs::remove_file(&file);
            output::message("nothing was changed");
            Ok(())
        }
        Err(Failure { code, message }) => {
            Err(Failure { code, message: format!("{message}\nWhat you wrote is in {}", file.display()) })
        }
    }
}

impl Read {
    async fn put(&self, client: &AdminClient, raw: &RawDestination, dry_run: bool) -> Result<ChangeView, Failure> {
        let path = format!("{}?expect=present&dry_run={dry_run}", self.path);
        client.send_if(Method::PUT, &path, Some(raw), Some(&self.tag)).await
    }
}

/// Editor, preview and question, until it is saved or left.
async fn by_editor(
    client: &AdminClient,
    read: &Read,
    file: &Path,
    dry_run: bool,
) -> Result<Option<ChangeView>, Failure> {
    let before: Option<RawDestination> = serde_json::from_value(Value::Object(read.keys.clone())).ok();
    let before = before.map(|raw| Canonical::of(&raw));
    loop {
        open(file)?;
        let told = match destination_of(file) {
            Ok(raw) if Some(Canonical::of(&raw)) == before => return Ok(None),
            Ok(raw) => read.put(client, &raw, true).await.map(|view| (raw, view)),
            Err(failure) => Err(failure),
        };
        let (question, raw) = match told {
            Ok((raw, view)) => {
                lines(&view).iter().for_each(|line| output::message(line));
                if dry_run {
                    return Ok(Some(view));
                }
                ("Save it? y, n, or e to edit it further", Some(raw))
            }
            // Somebody else was faster, or nobody answers: editing it further does not help.
            Err(failure) if failure.message.contains(MEANWHILE) || failure.code != super::exit::FAILED => {
                return Err(failure);
            }
            Err(failure) => {
                output::message(&failure.message);
                ("Edit it further? e, or n to leave it", None)
            }
        };
        match (answer(question)?, raw) {
            ('y', Some(raw)) => return read.put(client, &raw, false).await.map(Some),
            ('e', _) => {}
            _ => return Ok(None),
        }
    }
}

/// What the title of a refused condition says.
const MEANWHILE: &str = "changed meanwhile";

/// The first letter of a line of stdin; at its end it is no.
fn answer(question: &str) -> Result<char, Failure> {
    output::message(question);
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("could not read an answer: {error}")))?;
    Ok(line.trim_start().chars().next().map_or('n', |letter| letter.to_ascii_lowercase()))
}

/// The agreement as it is edited.
fn text(name: &DestinationId, read: &Read) -> Result<String, Failure> {
    let keys = toml::to_string(&read.keys);
    let keys = keys.map_err(|error| Failure::failed(format!("this agreement can't be written as TOML: {error}")))?;
    Ok(format!(
        "# The agreement with {name}, version {}: the keys of [destination.{name}].\n\
         # When you are done you see what it would mean, and are asked. The onion address is not shown:\n\
         # it stays unless you write onion = \"...\". A key that you take away is as by default.\n\n{keys}",
        read.tag.trim_matches('"')
    ))
}

/// Into a file that is the user's alone.
fn write(name: &DestinationId, text: &str) -> Result<PathBuf, Failure> {
    let mut random = [0; 8];
    SystemEntropy.fill(&mut random);
    let file = format!("tidegate-{name}-{}.toml", data_encoding::HEXLOWER.encode(&random));
    let path = env::temp_dir().join(file);
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::failed(format!("could not write {}: {error}", path.display())))?;
    Ok(path)
}

/// Lets the user edit it.
fn open(file: &Path) -> Result<(), Failure> {
    let named =
        ["VISUAL", "EDITOR"].iter().find_map(|name| env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    // An editor may be given with options, as every program takes it: a shell parts them.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("editor").arg(file).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("the editor ({editor}) ended with {status}; nothing was changed"))),
        Err(error) => Err(Failure::failed(format!("the editor ({editor}) could not be started: {error}"))),
    }
}

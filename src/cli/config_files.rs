//! The files of a config: the one that is named, and those of `conf.d` beside it, in the order of their names.
//!
//! Whatever ends in `.toml` in `conf.d` counts, but for names that begin with a dot (editors leave such behind). What lies in folders
//! below doesn't.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use tidegate_schemas::config::check::REGISTRY_BYTES_MAX;

/// Largest config, secret, hosts file or file of device credentials that is read, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most files of `conf.d`.
const FILES_MAX: usize = 1_000;
/// Name of the folder beside the config file.
pub const FOLDER: &str = "conf.d";

/// One file.
#[derive(Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// The folder in which relative paths of a config begin.
#[must_use]
pub fn base_dir(path: &Path) -> &Path {
    // A bare file name has the empty path as its parent, which is the current folder.
    path.parent().unwrap_or(Path::new(""))
}

/// Reads all files, the named one first.
///
/// # Errors
/// The file or folder that could not be read.
pub fn read(path: &Path) -> Result<Vec<ConfigFile>, (PathBuf, io::Error)> {
    let mut paths = vec![path.to_owned()];
    paths.extend(parts(path).map_err(|error| (base_dir(path).join(FOLDER), error))?);
    let files = paths.into_iter().map(|path| match read_file(&path) {
        Ok(text) => Ok(ConfigFile { path, text }),
        Err(error) => Err((path, error)),
    });
    files.collect()
}

/// The files of `conf.d`.
///
/// # Errors
/// When the folder is there and can't be listed.
pub fn parts(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(base_dir(path).join(FOLDER)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') && path.is_file() {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {FILES_MAX} files")));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file of text.
///
/// # Errors
/// When it can't be read, is too large or is no text.
pub fn read_file(path: &Path) -> io::Result<String> {
    read_at_most(path, FILE_BYTES_MAX)
}

/// Reads the file of the Registry, which has a limit of its own.
///
/// # Errors
/// When it can't be read, is too large or is no text.
pub fn read_registry(path: &Path) -> io::Result<String> {
    read_at_most(path, REGISTRY_BYTES_MAX)
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes {
        let message = format!("it is larger than {} MiB", bytes >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_registry_may_be_larger_than_a_config() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.json");
        fs::write(&file, "x".repeat(9 << 20)).unwrap();
        assert_eq!(read_registry(&file).unwrap().len(), 9 << 20);
        assert_eq!(read_file(&file).unwrap_err().to_string(), "it is larger than 8 MiB");
    }

    #[test]
    fn files_come_in_the_order_of_their_names_and_others_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tidegate.toml");
        fs::write(&config, "main").unwrap();
        assert_eq!(read(&config).unwrap().len(), 1, "no conf.d");
        let parts = folder.path().join(FOLDER);
        fs::create_dir_all(parts.join("folder.toml")).unwrap();
        for name in ["20-b.toml", "10-a.toml", ".10-a.toml", "c.toml.bak", "notes"] {
            fs::write(parts.join(name), name).unwrap();
        }
        let texts: Vec<String> = read(&config).unwrap().into_iter().map(|file| file.text).collect();
        assert_eq!(texts, ["main", "10-a.toml", "20-b.toml"]);
        let (path, _) = read(Path::new("/nonexistent/tidegate.toml")).unwrap_err();
        assert_eq!(path, Path::new("/nonexistent/tidegate.toml"));
    }
}

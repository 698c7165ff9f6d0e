//! Where the parts of the lab keep their data, and where `.ci/setup` puts the programs that it builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{LabError, file_error, private_folder};

/// A folder for one server's data: a temporary one is removed on drop, a named one is kept.
#[derive(Debug)]
pub struct LabFolder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl LabFolder {
    /// Opens `named`, or makes a temporary folder when there is none.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(named: Option<&Path>) -> Result<Self, LabError> {
        let (path, temporary) = match named {
            Some(path) => (path.to_owned(), None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("tidegate-lab-")
                    .tempdir()
                    .map_err(file_error("make a folder in", std::env::temp_dir()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        private_folder(&path)?;
        // Servers get absolute paths, whatever folder they are started in.
        let path = path.canonicalize().map_err(file_error("find", path))?;
        Ok(Self { path, _temporary: temporary })
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The folder of the programs that `.ci/setup` builds: `TIDEGATE_LAB`, else `tidegate-lab` in the user's cache folder.
#[must_use]
pub fn tools_folder() -> PathBuf {
    tools_folder_of(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn tools_folder_of(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let cache = || match (variable("XDG_CACHE_HOME"), variable("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => PathBuf::from(home.unwrap_or_default()).join(".cache"),
    };
    variable("TIDEGATE_LAB").map_or_else(|| cache().join("tidegate-lab"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_named_one_stays() {
        let temporary = LabFolder::open(None).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.is_dir());
        let named = path.join("named");
        drop(LabFolder::open(Some(&named)).unwrap());
        assert!(named.is_dir());
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn the_tools_are_where_setup_puts_them() {
        let with = |set: &'static [(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            tools_folder_of(variable)
        };
        assert_eq!(with(&[("HOME", "/h")]), Path::new("/h/.cache/tidegate-lab"));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Path::new("/c/tidegate-lab"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/c"), ("TIDEGATE_LAB", "/l")]), Path::new("/l"));
    }
}

//! Notices that files changed, by looking at them once a second: works on every file
//! system, network mounts and Kubernetes' symlinked volumes included.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What a file looked like: device, inode, size, modification time in nanoseconds.
type Look = Option<(u64, u64, u64, i64, i64)>;

/// The looks of a set of files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Watched {
    looks: BTreeMap<PathBuf, Look>,
    globs: Vec<PathBuf>,
    matches: Vec<PathBuf>,
}

impl Watched {
    /// Looks at all files. One that is not there is a look too.
    pub fn look(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let looks = files.into_iter().map(|path| {
            let look = std::fs::metadata(&path)
                .ok()
                .map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
            (path, look)
        });
        Self { looks: looks.collect(), ..Self::default() }
    }

    /// Watches besides which files match these globs (`policies/*.cedar`; only the last
    /// part of a path has a pattern).
    #[must_use]
    pub fn with_globs(mut self, globs: Vec<PathBuf>) -> Self {
        self.matches = matching(&globs);
        self.globs = globs;
        self
    }

    /// Looks again.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::look(self.looks.keys().cloned()).with_globs(self.globs.clone())
    }

    /// Takes the looks of an earlier moment for what was watched then: a file that has
    /// changed since is still to be noticed.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (path, look) in &mut self.looks {
            if let Some(then) = earlier.looks.get(path) {
                *look = *then;
            }
        }
        if self.globs == earlier.globs {
            self.matches.clone_from(&earlier.matches);
        }
        self
    }

    /// Looks again; gives the new looks when one differs.
    pub fn changed(&self) -> Option<Self> {
        let now = self.again();
        (now != *self).then_some(now)
    }
}

fn matching(globs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for glob in globs {
        let (Some(folder), Some(pattern)) = (glob.parent(), glob.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let Ok(pattern) = globset::Glob::new(pattern) else { continue };
        let pattern = pattern.compile_matcher();
        let folder = if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder };
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.file_name().is_some_and(|name| pattern.is_match(name))),
        );
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_writes_replacements_and_removals_but_not_stillness() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "1").unwrap();
        let first = Watched::look([path.clone()]);
        assert_eq!(first.changed(), None);
        std::fs::write(&path, "22").unwrap();
        let second = first.changed().unwrap();
        std::fs::write(folder.path().join("b"), "33").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        let third = second.changed().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(third.changed().is_some());
    }

    #[test]
    fn a_change_while_others_are_taken_up_is_noticed_after() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&one, "1").unwrap();
        let before = Watched::look([one.clone()]).again();
        // Read here, and changed again before the next look.
        std::fs::write(&one, "22").unwrap();
        std::fs::write(&two, "1").unwrap();
        let after = Watched::look([one, two]).since(&before);
        assert!(after.changed().is_some());
        assert_eq!(after.changed().unwrap().changed(), None);
    }

    #[test]
    fn sees_a_new_file_that_matches_a_glob_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let watched = Watched::look([]).with_globs(vec![folder.path().join("*.cedar")]);
        std::fs::write(folder.path().join("readme.md"), "x").unwrap();
        assert_eq!(watched.changed(), None);
        std::fs::write(folder.path().join("a.cedar"), "x").unwrap();
        assert!(watched.changed().is_some());
    }
}

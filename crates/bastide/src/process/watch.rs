//! Notices that files changed, by looking at them several times a second: works on every
//! file system, network mounts and Kubernetes' symlinked volumes included.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Disk, matching};

/// What a file looked like: device, inode, size, modification time in nanoseconds.
type Look = Option<(u64, u64, u64, i64, i64)>;

/// The looks of a set of files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Watched {
    looks: BTreeMap<PathBuf, Look>,
    /// What matches each glob.
    globs: BTreeMap<PathBuf, Vec<PathBuf>>,
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

    /// Watches besides which files match these globs (`tenants/*/policies/*.cedar`).
    #[must_use]
    pub fn with_globs(mut self, globs: impl IntoIterator<Item = PathBuf>) -> Self {
        let matches = |glob: PathBuf| {
            // One that cannot be read is a fault of the configuration, which says so.
            let matches = matching(&Disk, &glob).unwrap_or_default();
            (glob, matches)
        };
        self.globs = globs.into_iter().map(matches).collect();
        self
    }

    /// Watches what `other` watches as well.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.looks.extend(other.looks);
        self.globs.extend(other.globs);
        self
    }

    /// Looks again.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::look(self.looks.keys().cloned()).with_globs(self.globs.keys().cloned())
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
        for (glob, matches) in &mut self.globs {
            if let Some(then) = earlier.globs.get(glob) {
                matches.clone_from(then);
            }
        }
        self
    }

    /// Whether the file at `path` looks other than earlier, and nothing else does.
    pub fn differs_only_in(&self, path: &Path, earlier: &Self) -> bool {
        let is_other = |(at, _): &(&PathBuf, &Look)| *at != path;
        let others = self.looks.iter().filter(is_other).eq(earlier.looks.iter().filter(is_other));
        others && self.globs == earlier.globs && self != earlier
    }

    /// Looks again; gives the new looks when one differs.
    pub fn changed(&self) -> Option<Self> {
        let now = self.again();
        (now != *self).then_some(now)
    }
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
    fn a_change_of_one_file_is_told_from_one_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let [keys, other, new] = ["keys", "other", "new.yaml"].map(|name| folder.path().join(name));
        let globs = [folder.path().join("*.yaml")];
        let first = Watched::look([keys.clone(), other.clone()]).with_globs(globs);
        assert!(!first.again().differs_only_in(&keys, &first), "nothing has changed");
        std::fs::write(&keys, "1").unwrap();
        let second = first.again();
        assert!(second.differs_only_in(&keys, &first) && !second.differs_only_in(&other, &first));
        std::fs::write(&other, "1").unwrap();
        assert!(!second.again().differs_only_in(&keys, &first), "two have");
        std::fs::remove_file(&other).unwrap();
        std::fs::write(&new, "1").unwrap();
        assert!(!second.again().differs_only_in(&keys, &first), "a glob matches one more");
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
        for (glob, other, new) in [
            ("*.cedar", "readme.md", "a.cedar"),
            ("*/*.cedar", "team/readme.md", "team/a.cedar"),
            ("team-*/*/a.cedar", "team/new/a.cedar", "team-1/new/a.cedar"),
            ("{team,crew}/policies/*.cedar", "team/policies/.a.cedar", "crew/policies/a.cedar"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for name in ["team/policies", "team-1", "crew/policies"] {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let watched = Watched::look([]).with_globs([folder.path().join(glob)]);
            let write = |name: &str| {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "x").unwrap();
            };
            write(other);
            assert_eq!(watched.changed(), None, "{glob}");
            write(new);
            assert!(watched.changed().is_some(), "{glob}");
        }
    }
}

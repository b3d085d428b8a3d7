//! The last generations of policies, kept in the state folder so that a decision of
//! yesterday can be explained after a reload and a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use policy::{Policies, Source, Vocabulary};

use super::state::{make_private_folder, write_atomically};
use crate::wire;

/// How many generations are kept.
pub const KEPT: usize = 32;

/// The folder of retained generations.
pub struct Generations {
    folder: PathBuf,
}

impl Generations {
    /// In this state folder.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.join("generations") }
    }

    /// The number for the next generation: one past the highest that was kept, so that
    /// numbers never repeat over restarts.
    pub fn next(&self) -> u64 {
        self.numbers().last().map_or(1, |last| last + 1)
    }

    /// Keeps one, and forgets the oldest beyond [`KEPT`].
    ///
    /// # Errors
    /// What the system said.
    pub fn keep(&self, policies: &Policies) -> io::Result<()> {
        make_private_folder(&self.folder)?;
        let text = serde_json::to_vec(&policies.to_retained())?;
        write_atomically(&self.path(policies.generation()), &text)?;
        let numbers = self.numbers();
        for old in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
            fs::remove_file(self.path(*old))?;
        }
        Ok(())
    }

    /// Those of these names and texts, when they are the newest that are kept; else loads them
    /// under the next number and keeps them.
    ///
    /// # Errors
    /// They cannot be loaded or kept.
    pub fn keep_once(&self, vocabulary: Vocabulary, sources: &[Source]) -> anyhow::Result<Policies> {
        let newest = self.newest().and_then(|number| self.get(number).ok());
        if let Some(same) = newest.filter(|newest| newest.are(&vocabulary, sources)) {
            return Ok(same);
        }
        let next = wire::load(vocabulary, sources, self.next())?;
        self.keep(&next).context("cannot keep the policies for `bastide explain`")?;
        Ok(next)
    }

    /// Reads one back.
    ///
    /// # Errors
    /// It is not kept any more, or cannot be read.
    pub fn get(&self, generation: u64) -> anyhow::Result<Policies> {
        let path = self.path(generation);
        let text = fs::read(&path).map_err(|error| {
            anyhow::anyhow!(
                "policy generation {generation} is not kept any more ({}: {error})",
                path.display()
            )
        })?;
        let value: serde_json::Value = serde_json::from_slice(&text)?;
        Policies::from_retained(&value).map_err(|faults| {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            anyhow::anyhow!("{}: cannot be read back: {first}", path.display())
        })
    }

    /// The newest that is kept.
    pub fn newest(&self) -> Option<u64> {
        self.numbers().last().copied()
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("{generation:012}.json"))
    }

    /// All numbers, ascending.
    fn numbers(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut numbers: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

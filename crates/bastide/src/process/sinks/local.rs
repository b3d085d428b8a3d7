//! JSON lines on standard output or at the end of a file.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use super::{Delivery, Fate};

pub(super) struct Local {
    to: To,
    /// Whether the last write may have left part of a line.
    torn: bool,
}

enum To {
    Stdout,
    File(PathBuf),
}

impl Local {
    pub(super) const fn stdout() -> Self {
        Self { to: To::Stdout, torn: false }
    }

    pub(super) const fn file(path: PathBuf) -> Self {
        Self { to: To::File(path), torn: false }
    }

    pub(super) async fn deliver(&mut self, lines: &[Vec<u8>]) -> Delivery {
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum::<usize>() + 1);
        if self.torn {
            text.push(b'\n');
        }
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let written = match &self.to {
            To::Stdout => write(&mut tokio::io::stdout(), &text).await,
            To::File(path) => append(path, &text).await,
        };
        self.torn = written.is_err();
        match written {
            Ok(()) => Delivery::all(lines.len(), Fate::Taken, None),
            Err(error) => Delivery::all(lines.len(), Fate::Later, Some(format!("cannot write: {error}"))),
        }
    }
}

/// Opened anew each time: whoever rotates it moves it away.
async fn append(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await?;
    write(&mut file, text).await
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), text: &[u8]) -> std::io::Result<()> {
    to.write_all(text).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard output and files alike: the flag stands beside both.
    #[tokio::test]
    async fn after_a_line_that_may_be_torn_the_next_begins_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut local = Local::file("/dev/full".into());
        let line = [b"{}".to_vec()];
        assert_eq!(local.deliver(&line).await.fates, [Fate::Later]);
        local.to = To::File(path.clone());
        for written in ["\n{}\n", "\n{}\n{}\n"] {
            assert_eq!(local.deliver(&line).await.fates, [Fate::Taken]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
        }
        assert!(!local.torn && !Local::stdout().torn);
    }
}

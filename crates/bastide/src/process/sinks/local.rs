//! JSON lines on standard output or at the end of a file.

use std::path::PathBuf;

use tokio::io::AsyncWriteExt;

use super::{Delivery, Fate};

pub(super) enum Local {
    Stdout,
    File {
        path: PathBuf,
        /// Whether the last write may have left part of a line.
        torn: bool,
    },
}

impl Local {
    pub(super) fn file(path: PathBuf) -> Self {
        Self::File { path, torn: false }
    }

    pub(super) async fn deliver(&mut self, lines: &[Vec<u8>]) -> Delivery {
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum::<usize>() + 1);
        if matches!(self, Self::File { torn: true, .. }) {
            text.push(b'\n');
        }
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let written = match self {
            Self::Stdout => write(&mut tokio::io::stdout(), &text).await,
            Self::File { path, torn } => {
                let opened = async {
                    // Opened anew each time: whoever rotates it moves it away.
                    let mut file = tokio::fs::OpenOptions::new()
                        .create(true)
                        .append(true)
                        .mode(0o600)
                        .open(&path)
                        .await?;
                    write(&mut file, &text).await
                };
                let written = opened.await;
                *torn = written.is_err();
                written
            }
        };
        match written {
            Ok(()) => Delivery::all(lines.len(), Fate::Taken, None),
            Err(error) => Delivery::all(lines.len(), Fate::Later, Some(format!("cannot write: {error}"))),
        }
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), text: &[u8]) -> std::io::Result<()> {
    to.write_all(text).await?;
    to.flush().await
}

//! Threads that read: each has a connection of its own and sees one moment per task.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rusqlite::Connection;

use super::{schema, spawn};
use crate::error::Error;

/// Threads that read.
const READERS: usize = 2;

/// Something to do on a connection.
pub(super) type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// The threads' common inbox. They end when it is dropped.
pub(super) struct Readers(mpsc::Sender<Task>);

impl Readers {
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        let (sender, inbox) = mpsc::channel::<Task>();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..READERS {
            let mut connection = schema::connect(Some(path))?;
            let inbox = Arc::clone(&inbox);
            spawn("store-reader", move || {
                loop {
                    let task = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(task) = task else { return };
                    task(&mut connection);
                }
            })?;
        }
        Ok(Self(sender))
    }

    pub(super) fn run(&self, task: Task) -> Result<(), Error> {
        self.0.send(task).map_err(|_| Error::Closed)
    }
}

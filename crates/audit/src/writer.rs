//! The thread that writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::Clock;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::batch_writer::BatchWriter;
use crate::health::{Health, QueueCounters, Status, add};
use crate::queue::{LINE_BYTES_KEPT_MAX, Queue};
use crate::rest::Rest;
use crate::segment::{self, Segment};
use crate::sink::Buffer;
use crate::{Error, POLL, RETRY, Settings};

/// A batch is written when it has so many bytes, even if more is waiting.
const BATCH_BYTES_MAX: usize = 1 << 17;
/// The same where each one is made safe, which takes as long whatever its size.
const DURABLE_BATCH_BYTES_MAX: usize = 1 << 20;
/// Emptied buffers that are kept for each queue.
const SPARE_LINES_MAX: usize = 1024;
/// How often the writer looks whether its file is still in the folder, and tries again to
/// begin the next one or to remove an old one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A writer that found nothing so many times sleeps until something comes, and looks at its file
/// every [`LOOK_EVERY`] all the same.
const QUIET_LOOKS: u32 = 10;
/// How often whoever waits for the disk looks.
const FLUSH_LOOK: Duration = Duration::from_micros(200);
/// How long dropping the log waits for the disk; [`Log::close`] takes its own time.
const DROP_WITHIN: Duration = Duration::from_secs(1);

/// The open log. Dropping it closes it and loses the error: call [`Log::close`].
#[derive(Debug)]
pub struct Log {
    health: Arc<Health>,
    closing: Arc<Closing>,
    lock: File,
    sinks: Arc<Sinks>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

/// Who is told besides, and whether one of them wants no more requests.
#[derive(Debug, Default)]
struct Sinks {
    buffers: Mutex<Vec<Arc<Buffer>>>,
    shut: Arc<AtomicBool>,
}

impl Sinks {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Buffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts requests out, or lets them in.
    fn judge(&self) {
        let shut = self.lock().iter().any(|buffer| buffer.is_shut());
        self.shut.store(shut, Ordering::Relaxed);
    }
}

/// When to stop: monotonic nanoseconds plus one; 0 while the log is open.
#[derive(Debug, Default)]
struct Closing {
    within_nanos: AtomicU64,
}

impl Log {
    /// How the log fares.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The lock on the folder, for [`crate::open_beside`] in another process.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Whoever is told each event besides, from now on. The buffers of before get no more.
    pub fn set_sinks(&self, buffers: Vec<Arc<Buffer>>) {
        *self.sinks.lock() = buffers;
        self.sinks.judge();
    }

    /// Waits until everything that was reserved and committed is written, and has the writer hurry.
    ///
    /// # Errors
    /// [`Error::Unwritten`]: it is not within `within`; how many events wait, and why.
    pub fn flush(&self, within: Duration) -> Result<(), Error> {
        let looks = within.as_nanos() / FLUSH_LOOK.as_nanos();
        for _ in 0..looks {
            // In this order: what is reserved no more is committed.
            if self.health.counts().reserved == 0 && self.health.counts().pending_events == 0 {
                return Ok(());
            }
            // One whose disk is full tries again in its own time.
            if let (Some(thread), Status::Good) = (&self.thread, self.health.status()) {
                thread.thread().unpark();
            }
            thread::sleep(FLUSH_LOOK);
        }
        let reason = match self.health.status() {
            Status::Good => "the disk is slow".to_owned(),
            Status::Bad { reason, .. } => reason,
        };
        Err(Error::Unwritten { events: self.health.counts().pending_events, reason })
    }

    /// Writes everything that was committed, waits for reserved slots, and ends the
    /// writer. `within` bounds all of that.
    ///
    /// # Errors
    /// [`Error::Unwritten`]: after `within` there were still events; how many, and why.
    pub fn close(mut self, within: Duration) -> Result<(), Error> {
        self.end(within)
    }

    fn end(&mut self, within: Duration) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.closing.within_nanos.store(nanos, Ordering::Release);
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| {
            let events = self.health.counts().pending_events;
            Err(Error::Unwritten { events, reason: "the writer has crashed".to_owned() })
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.end(DROP_WITHIN) {
            tracing::error!("{error}");
        }
    }
}

/// See [`crate::open`].
pub(crate) fn open(
    settings: Settings,
    cores: usize,
    clock: Arc<dyn Clock>,
    handed: Option<File>,
) -> Result<(Log, Vec<Queue>), Error> {
    let beside = handed.is_some();
    let lock = handed.map_or_else(|| segment::lock(&settings.folder), Ok)?;
    let (mut queues, mut sources, mut all_counters) = (Vec::new(), Vec::new(), Vec::new());
    let (sinks, rest) = (Arc::new(Sinks::default()), Arc::new(Rest::default()));
    for _ in 0..cores {
        let capacity = settings.queue_events.max(1);
        let (lines_in, lines_out) = RingBuffer::new(capacity);
        let (spare_in, spare_out) = RingBuffer::new(capacity.min(SPARE_LINES_MAX));
        let counters = Arc::new(QueueCounters::default());
        let (shut, rest) = (sinks.shut.clone(), rest.clone());
        queues.push(Queue::new(lines_in, spare_out, counters.clone(), &settings, shut, rest));
        sources.push(Source { lines: lines_out, spare: spare_in, counters: counters.clone() });
        all_counters.push(counters);
    }
    let health = Arc::new(Health::new(all_counters));
    let closing = Arc::new(Closing::default());
    let current = if beside {
        let last = segment::list(&settings.folder)?.pop();
        Current::begin(&settings, Segment::next(last.as_ref(), clock.now()))?
    } else {
        Current::open(&settings, &*clock, &health)?
    };
    current.make_room(settings.room_bytes)?;
    let writer = Writer {
        settings,
        clock,
        health: health.clone(),
        closing: closing.clone(),
        sources,
        batch_writer: BatchWriter::default(),
        sinks: sinks.clone(),
        current,
        looked: Duration::ZERO,
        owed: None,
        rest,
        quiet_looks: 0,
    };
    let thread = thread::Builder::new()
        .name("audit".to_owned())
        .spawn(move || writer.run())
        .map_err(|source| Error::Io { doing: "start the writer for", path: PathBuf::new(), source })?;
    Ok((Log { health, closing, lock, sinks, thread: Some(thread) }, queues))
}

struct Source {
    lines: Consumer<Vec<u8>>,
    spare: Producer<Vec<u8>>,
    counters: Arc<QueueCounters>,
}

/// The file that is written.
struct Current {
    segment: Segment,
    path: PathBuf,
    file: File,
    length: u64,
}

impl Current {
    /// Goes on with the last file, or begins the first.
    fn open(settings: &Settings, clock: &dyn Clock, health: &Health) -> Result<Self, Error> {
        let segment = match segment::list(&settings.folder)?.pop() {
            Some(last) => last,
            None => Segment::next(None, clock.now()),
        };
        let mut current = Self::begin(settings, segment)?;
        let failed = |source| Error::Io { doing: "repair", path: current.path.clone(), source };
        if segment::is_torn(&current.file, current.length).map_err(failed)? {
            io::Write::write_all(&mut current.file, b"\n").map_err(failed)?;
            current.length += 1;
            health.torn_lines.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = %current.path.display(), "a line of the audit log was torn by a crash");
        }
        Ok(current)
    }

    /// Takes room for so many bytes; none, none.
    fn make_room(&self, bytes: u64) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let made = segment::make_room(&self.file, self.length, bytes);
        made.map_err(|source| Error::Io { doing: "make room in", path: self.path.clone(), source })
    }

    fn begin(settings: &Settings, segment: Segment) -> Result<Self, Error> {
        let path = segment.path(&settings.folder);
        match segment::append(&path) {
            Ok((file, length)) => Ok(Self { segment, path, file, length }),
            Err(source) => Err(Error::Io { doing: "open", path, source }),
        }
    }
}

struct Writer {
    settings: Settings,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    closing: Arc<Closing>,
    sources: Vec<Source>,
    batch_writer: BatchWriter,
    sinks: Arc<Sinks>,
    current: Current,
    /// When the file was last seen in the folder, monotonic.
    looked: Duration,
    /// When the next file could not be begun, or an old one not removed, monotonic.
    owed: Option<Duration>,
    rest: Arc<Rest>,
    /// How often in a row there was nothing to do.
    quiet_looks: u32,
}

impl Writer {
    fn run(mut self) -> Result<(), Error> {
        let mut end = None;
        loop {
            let within = self.closing.within_nanos.load(Ordering::Acquire);
            let now = self.clock.monotonic();
            if end.is_none() && within > 0 {
                end = Some(now.saturating_add(Duration::from_nanos(within)));
            }
            // Read before the queues are emptied: nothing is committed after this
            // without having been reserved before it.
            let reserved = self.health.counts().reserved;
            let more = self.fill();
            self.sinks.judge();
            self.quiet_looks = if self.is_quiet() { self.quiet_looks.saturating_add(1) } else { 0 };
            let result = self.write();
            match &result {
                Ok(()) if more => continue,
                _ if end.is_some() && reserved == 0 && self.drained() => return Ok(()),
                _ => {}
            }
            if end.is_some_and(|end| now >= end) {
                return self.give_up(result.err());
            }
            match (&result, end) {
                (Err(_), None) => thread::park_timeout(RETRY),
                (Ok(()), None) if self.quiet_looks >= QUIET_LOOKS => self.sleep(),
                _ => thread::park_timeout(POLL),
            }
        }
    }

    /// Whether there is nothing to do before something comes. A sink that shuts requests out is
    /// waited for: nothing comes until it lets them in.
    fn is_quiet(&self) -> bool {
        self.batch_writer.is_empty() && self.owed.is_none() && !self.sinks.shut.load(Ordering::Relaxed)
    }

    /// Sleeps until something is committed; closing the log ends it, too.
    fn sleep(&self) {
        self.rest.sleep(LOOK_EVERY, || self.sources.iter().any(|source| !source.lines.is_empty()));
    }

    fn drained(&self) -> bool {
        self.batch_writer.is_empty() && self.sources.iter().all(|source| source.lines.is_empty())
    }

    /// Takes lines from the queues, round by round, so that no core waits for another.
    /// Says whether a full batch left some behind.
    fn fill(&mut self) -> bool {
        let sinks = self.sinks.lock();
        let bytes_max = if self.settings.durable { DURABLE_BATCH_BYTES_MAX } else { BATCH_BYTES_MAX };
        loop {
            let mut found = false;
            for source in &mut self.sources {
                if self.batch_writer.bytes() >= bytes_max {
                    return true;
                }
                let Ok(mut line) = source.lines.pop() else { continue };
                found = true;
                add(&source.counters.taken_bytes.0, line.len() as u64);
                self.batch_writer.add(&line);
                sinks.iter().for_each(|sink| sink.push(&line));
                if line.capacity() <= LINE_BYTES_KEPT_MAX {
                    line.clear();
                    // A full ring of spares only means that this one is let go.
                    let _ = source.spare.push(line);
                }
            }
            if !found {
                return false;
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        if let Err(error) = self.look() {
            let reason = why(&error);
            self.fault(&reason);
            return Err(reason);
        }
        if self.batch_writer.at_start() {
            self.rotate_if_due();
        }
        if self.batch_writer.is_empty() {
            self.health.good();
            return Ok(());
        }
        let start = self.current.length - self.batch_writer.taken();
        match self.batch_writer.write(&mut self.current.file, start, self.settings.durable) {
            Ok(batch) => {
                self.current.length = start + batch.bytes;
                self.wrote(batch);
                self.health.good();
                Ok(())
            }
            Err(error) => {
                self.current.length = start + self.batch_writer.taken();
                let reason = format!("cannot write {}: {error}", self.current.path.display());
                self.fault(&reason);
                Err(reason)
            }
        }
    }

    fn wrote(&self, batch: crate::batch_writer::Batch) {
        add(&self.health.written_events, batch.events);
        add(&self.health.written_bytes, batch.bytes);
    }

    fn fault(&self, reason: &str) {
        if self.health.status() == crate::Status::Good {
            tracing::error!("audit log: {reason}; events wait in the queues");
        }
        add(&self.health.write_errors, 1);
        self.health.bad(reason.to_owned(), self.clock.now());
    }

    /// Begins a new file when somebody has taken the current one away: lines would
    /// otherwise go where nobody can find them. What that one got of the batch is written
    /// again.
    ///
    /// # Errors
    /// It cannot be begun: nothing may be written.
    fn look(&mut self) -> Result<(), Error> {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        let in_folder = match (self.current.file.metadata(), std::fs::metadata(&self.current.path)) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        };
        if !in_folder {
            let gone = self.current.path.clone();
            self.begin_next()?;
            self.batch_writer.rewind();
            tracing::warn!(file = %gone.display(), "the audit file was taken away; a new one is begun");
        }
        // Not before: as long as there is no file, each try comes here.
        self.looked = now;
        Ok(())
    }

    /// Begins the next file when the current one is full or old, and removes the oldest. On
    /// failure the current file is written on: a file too long is better than a line lost.
    fn rotate_if_due(&mut self) {
        let size = self.current.length.saturating_add(self.batch_writer.bytes() as u64);
        let full = self.current.length > 0 && size > self.settings.rotate_bytes;
        let age_millis = self.clock.now().unix_millis().saturating_sub(self.current.segment.begun_millis);
        let old = !self.settings.rotate_after.is_zero()
            && self.current.length > 0
            && u128::from(age_millis) >= self.settings.rotate_after.as_millis();
        let due = full || old;
        if !due && self.owed.is_none() {
            return;
        }
        let now = self.clock.monotonic();
        if self.owed.is_some_and(|tried| now.saturating_sub(tried) < LOOK_EVERY) {
            return;
        }
        let begun = if due { self.begin_next() } else { Ok(()) };
        match begun.and_then(|()| segment::prune(&self.settings.folder, self.settings.keep)) {
            Ok(_) => self.owed = None,
            Err(error) => {
                if self.owed.is_none() {
                    let reason = why(&error);
                    tracing::error!(
                        "audit log: {reason}; lines are written all the same, and it is tried again"
                    );
                }
                add(&self.health.write_errors, 1);
                self.owed = Some(now);
            }
        }
    }

    fn begin_next(&mut self) -> Result<(), Error> {
        let next = Segment::next(Some(&self.current.segment), self.clock.now());
        self.current = Current::begin(&self.settings, next)?;
        add(&self.health.rotations, 1);
        Ok(())
    }

    /// The time to close is over. What is not written is lost, and said to be.
    fn give_up(mut self, reason: Option<String>) -> Result<(), Error> {
        let length = self.current.length;
        match self.batch_writer.give_up(&mut self.current.file, length) {
            Ok(saved) => self.wrote(saved),
            Err(error) => tracing::error!("audit log: cannot cut off a torn line: {error}"),
        }
        let counts = self.health.counts();
        let events = counts.pending_events + counts.reserved;
        if events == 0 {
            return Ok(());
        }
        let reason = reason.unwrap_or_else(|| format!("{} requests had not ended", counts.reserved));
        Err(Error::Unwritten { events, reason })
    }
}

/// What went wrong, where it is said of which log.
fn why(error: &Error) -> String {
    match error {
        Error::Io { doing, path, source } => format!("cannot {doing} {}: {source}", path.display()),
        Error::InUse { .. } | Error::Unwritten { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_BYTES: usize = 1 << 13;

    #[test]
    fn a_batch_has_so_many_bytes_and_more_where_each_is_made_safe() {
        for (durable, bytes) in [(false, 128 << 10), (true, 1 << 20)] {
            let folder = tempfile::TempDir::new().unwrap();
            let settings = Settings { durable, ..Settings::new(folder.path()) };
            let (clock, health) = (crate::tests::clock(), Arc::new(Health::new(Vec::new())));
            let (mut waiting, lines) = RingBuffer::new(256);
            while waiting.push(vec![b'x'; LINE_BYTES]).is_ok() {}
            let source = Source { lines, spare: RingBuffer::new(1).0, counters: Arc::default() };
            let mut writer = Writer {
                current: Current::open(&settings, &*clock, &health).unwrap(),
                settings,
                clock,
                health,
                closing: Arc::default(),
                sources: vec![source],
                batch_writer: BatchWriter::default(),
                sinks: Arc::default(),
                looked: Duration::ZERO,
                owed: None,
                rest: Arc::default(),
                quiet_looks: 0,
            };
            assert!(writer.fill(), "more is waiting");
            assert_eq!(writer.batch_writer.bytes(), bytes, "durable: {durable}");
        }
    }
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use model::event::Step;
use model::{RequestId, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::record::tests::event;

const LONG: Duration = Duration::from_secs(20);

/// Wall-clock time stands where it is put; monotonic time runs by itself, a
/// millisecond for each look at it, and as time does on top of that.
struct TestClock {
    wall_millis: AtomicU64,
    looks: AtomicU64,
    began: Instant,
}

impl TestClock {
    fn at(millis: u64) -> Arc<Self> {
        Arc::new(Self { wall_millis: AtomicU64::new(millis), looks: AtomicU64::new(0), began: real_time() })
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the writer sleeps is measured")]
fn real_time() -> Instant {
    Instant::now()
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.wall_millis.load(Ordering::Relaxed) * 1_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.looks.fetch_add(1, Ordering::Relaxed)) + self.began.elapsed()
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    TestClock::at(1_000)
}

fn settings(folder: &Path) -> Settings {
    Settings::new(folder)
}

fn open_one(settings: Settings) -> (Log, Rc<Queue>) {
    open_at(settings, TestClock::at(1_000))
}

fn open_at(settings: Settings, clock: Arc<TestClock>) -> (Log, Rc<Queue>) {
    let (log, mut queues) = when_free(|| open(settings.clone(), 1, clock.clone()));
    (log, Rc::new(queues.pop().unwrap()))
}

/// What is opened when its folder is free: a process that another test starts has whatever this one
/// has open, the lock of a log that was closed meanwhile too, until it is another program.
fn when_free<T>(mut open: impl FnMut() -> Result<T, Error>) -> T {
    let mut opened = None;
    wait_until("its folder is free", || match open() {
        Err(Error::InUse { .. }) => false,
        done => {
            opened = Some(done.unwrap());
            true
        }
    });
    opened.unwrap()
}

fn commit(queue: &Rc<Queue>, id: u128) {
    let event = event(id);
    queue.reserve(event.id, event.time).unwrap().commit(&event);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    segment::list(folder).unwrap().iter().map(|segment| segment.path(folder)).collect()
}

fn lines(folder: &Path) -> Vec<String> {
    files(folder)
        .iter()
        .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not within a minute: {what}");
}

#[test]
fn events_of_all_cores_arrive_whole_and_close_flushes() {
    let folder = TempDir::new().unwrap();
    let (log, queues) = open(settings(folder.path()), 4, TestClock::at(1_000)).unwrap();
    thread::scope(|scope| {
        for (core, queue) in queues.into_iter().enumerate() {
            scope.spawn(move || {
                let queue = Rc::new(queue);
                for n in 0..1000 {
                    commit(&queue, (core * 1000 + n) as u128);
                }
            });
        }
    });
    let health = log.health().clone();
    log.close(LONG).unwrap();
    let counts = health.counts();
    assert_eq!((counts.written_events, counts.pending_events, counts.pending_bytes), (4000, 0, 0));
    let mut ids: Vec<RequestId> =
        lines(folder.path()).iter().map(|line| record::parse(line.as_bytes()).unwrap().event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4000);
}

#[test]
fn the_writer_looks_by_itself() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(settings(folder.path()));
    commit(&queue, 1);
    wait_until("the line is in the file", || lines(folder.path()).len() == 1);
    assert_eq!(log.health().status(), Status::Good);
}

#[test]
fn a_writer_with_nothing_to_do_sleeps_and_wakes_for_each_event() {
    let (folder, clock) = (TempDir::new().unwrap(), TestClock::at(1_000));
    let (log, queue) = open_at(settings(folder.path()), clock.clone());
    let looks = || clock.looks.load(Ordering::Relaxed);
    for n in 1..=20_u64 {
        // Now before it falls asleep, now while it does, now long after.
        thread::sleep(POLL * 9 + Duration::from_millis(n * 2));
        commit(&queue, n.into());
        let committed = real_time();
        wait_until("the line is written", || log.health().counts().written_events == n);
        assert!(committed.elapsed() < Duration::from_millis(500), "{n}: {:?}", committed.elapsed());
    }
    thread::sleep(POLL * 30);
    let before = looks();
    thread::sleep(POLL * 100);
    // The writer looks at most every second, twice each time.
    assert!(looks() - before <= 8, "{} looks within a second", looks() - before);
    let closed = real_time();
    log.close(LONG).unwrap();
    assert!(closed.elapsed() < Duration::from_millis(500), "{:?}", closed.elapsed());
}

#[test]
fn folder_and_files_are_for_their_owner_alone() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("deep/audit");
    let (log, queue) = open_one(settings(&folder));
    commit(&queue, 1);
    log.close(LONG).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn a_full_queue_refuses_or_drops_as_configured_at_its_limit() {
    for (when_full, refused, dropped) in [(WhenFull::Refuse, 1, 0), (WhenFull::Drop, 0, 1)] {
        let folder = TempDir::new().unwrap();
        let (log, queue) = open_one(Settings { queue_events: 3, when_full, ..settings(folder.path()) });
        // Reserved places are taken even though nothing is committed yet.
        let slots: Vec<Slot> = (0..3).map(|n| queue.reserve(event(n).id, event(n).time).unwrap()).collect();
        assert_eq!(queue.free(), 0);
        let fourth = queue.reserve(event(3).id, event(3).time);
        assert_eq!(fourth.is_err(), when_full == WhenFull::Refuse);
        assert!(slots.iter().all(Slot::has_place));
        if let Ok(slot) = fourth {
            assert!(!slot.has_place(), "it will be dropped");
            slot.commit(&event(3));
        }
        slots.into_iter().zip(0..).for_each(|(slot, n)| slot.commit(&event(n)));
        wait_until("there is room again", || queue.free() == 3);
        let counts = log.health().counts();
        assert_eq!((counts.refused, counts.dropped, counts.reserved), (refused, dropped, 0));
        log.close(LONG).unwrap();
        assert_eq!(lines(folder.path()).len(), 3);
    }
}

#[test]
fn a_queue_of_long_lines_is_full_before_its_places_are_taken() {
    for when_full in [WhenFull::Refuse, WhenFull::Drop] {
        let (lines_in, mut lines) = rtrb::RingBuffer::new(8);
        let (_spare_in, spare) = rtrb::RingBuffer::new(8);
        let counters = Arc::new(health::QueueCounters::default());
        let settings = Settings { queue_bytes: 100, when_full, ..settings(Path::new("")) };
        let queue =
            Rc::new(Queue::new(lines_in, spare, counters.clone(), &settings, Arc::default(), Arc::default()));
        let reserve = || queue.reserve(event(1).id, event(1).time);
        let commit = |bytes| reserve().unwrap().commit_line(|line| line.resize(bytes, b' '));
        commit(60);
        commit(39);
        assert!(queue.has_room() && queue.free() == 6, "full one byte before its limit");
        // Whoever holds a place can always commit.
        let held = reserve().unwrap();
        commit(1);
        assert_eq!((queue.free(), queue.has_room()), (0, when_full == WhenFull::Drop));
        match reserve() {
            Ok(slot) => slot.commit(&event(1)),
            Err(full) => assert_eq!(full, Full),
        }
        held.commit_line(|line| line.resize(50, b' '));
        let counted = [&counters.refused, &counters.dropped].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counted, if when_full == WhenFull::Drop { [0, 1] } else { [1, 0] });
        // The writer takes the first two: 51 bytes wait.
        for _ in 0..2 {
            let line = lines.pop().unwrap();
            health::add(&counters.taken_bytes.0, line.len() as u64);
        }
        assert_eq!(queue.free(), 6);
    }
}

#[test]
fn a_slot_dropped_without_its_event_writes_that_it_was() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(settings(folder.path()));
    let id = event(5).id;
    drop(queue.reserve(id, event(5).time).unwrap());
    assert_eq!(log.health().counts().abandoned, 1);
    log.close(LONG).unwrap();
    let stored = read::find(folder.path(), id).unwrap().unwrap();
    assert!(stored.abandoned);
    assert_eq!(stored.event.step, Step::Audit);
}

#[test]
fn close_waits_for_what_is_reserved_and_says_what_it_lost() {
    let folder = TempDir::new().unwrap();
    let (log, mut queues) = open(settings(folder.path()), 1, TestClock::at(1_000)).unwrap();
    let queue = queues.pop().unwrap();
    let health = log.health().clone();
    let (reserved, wait) = (std::sync::Barrier::new(2), Mutex::new(()));
    let guard = wait.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let queue = Rc::new(queue);
            let slot = queue.reserve(event(1).id, event(1).time).unwrap();
            reserved.wait();
            let _released = wait.lock().unwrap();
            slot.commit(&event(1));
        });
        reserved.wait();
        let closing = scope.spawn(|| log.close(Duration::from_secs(3600)));
        assert_eq!(health.counts().reserved, 1);
        drop(guard);
        closing.join().unwrap().unwrap();
    });
    assert_eq!(lines(folder.path()).len(), 1);

    let (log, queue) = open_one(settings(folder.path()));
    let slot = queue.reserve(event(2).id, event(2).time).unwrap();
    let error = log.close(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::Unwritten { events: 1, .. }), "{error}");
    drop(slot);
}

#[test]
fn files_rotate_by_size_and_only_so_many_are_kept() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(Settings { rotate_bytes: 4_000, keep: 3, ..settings(folder.path()) });
    for n in 0..40 {
        commit(&queue, n);
        // One batch each, so that the size is looked at after every line.
        wait_until("written", || log.health().counts().pending_events == 0);
    }
    let rotations = log.health().counts().rotations;
    log.close(LONG).unwrap();
    let files = files(folder.path());
    assert_eq!(files.len(), 3);
    assert!(rotations > 3);
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= 4_000);
    }
    // The newest events are there, the oldest are not, and none in between is missing.
    let lines = lines(folder.path());
    let first = 40 - lines.len() as u128;
    for (line, n) in lines.iter().zip(first..) {
        assert_eq!(record::parse(line.as_bytes()).unwrap().event.id, event(n).id);
    }
}

#[test]
fn files_rotate_by_age() {
    let folder = TempDir::new().unwrap();
    let clock = TestClock::at(1_000);
    let settings = Settings { rotate_after: Duration::from_secs(60), ..settings(folder.path()) };
    let (log, queue) = open_at(settings, clock.clone());
    for (millis, expected) in [(1_000, 1), (60_999, 1), (61_000, 2), (61_001, 2)] {
        clock.wall_millis.store(millis, Ordering::Relaxed);
        commit(&queue, millis.into());
        wait_until("written", || log.health().counts().pending_events == 0);
        assert_eq!(files(folder.path()).len(), expected, "{millis}");
    }
}

#[test]
fn a_restart_goes_on_with_the_last_file_and_closes_a_torn_line() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(settings(folder.path()));
    commit(&queue, 1);
    log.close(LONG).unwrap();
    let file = files(folder.path()).pop().unwrap();
    let mut content = fs::read(&file).unwrap();
    let whole = content.clone();
    content.extend_from_slice(&whole[..whole.len() / 2]);
    fs::write(&file, &content).unwrap();

    let (log, queue) = open_one(settings(folder.path()));
    commit(&queue, 2);
    assert_eq!(log.health().counts().torn_lines, 1);
    log.close(LONG).unwrap();
    assert_eq!(files(folder.path()), [file]);
    assert_eq!(lines(folder.path()).len(), 3);
    for n in [1, 2] {
        assert_eq!(read::find(folder.path(), event(n).id).unwrap().unwrap().event, event(n));
    }
    // An honest end is not taken for a torn one.
    let (log, _queue) = open_one(settings(folder.path()));
    assert_eq!(log.health().counts().torn_lines, 0);
}

#[test]
fn a_second_process_is_kept_out_until_the_first_is_gone() {
    let folder = TempDir::new().unwrap();
    let (log, _queue) = open_one(settings(folder.path()));
    let error = open(settings(folder.path()), 1, TestClock::at(1)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    log.close(LONG).unwrap();
    when_free(|| open(settings(folder.path()), 1, TestClock::at(1)));
}

#[test]
fn one_that_takes_over_begins_a_file_of_its_own_under_the_same_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (old, old_queue) = open_one(settings(folder.path()));
    commit(&old_queue, 1);
    let (new, mut queues) =
        crate::open_beside(settings(folder.path()), 1, TestClock::at(2_000), old.lock().unwrap()).unwrap();
    let new_queue = Rc::new(queues.pop().unwrap());
    commit(&new_queue, 2);
    commit(&old_queue, 3);
    old.close(Duration::from_secs(10)).unwrap();
    // The lock stays with the one that goes on.
    assert!(matches!(
        crate::open(settings(folder.path()), 1, TestClock::at(3_000)),
        Err(Error::InUse { .. })
    ));
    new.close(Duration::from_secs(10)).unwrap();
    assert_eq!(files(folder.path()).len(), 2);
    assert_eq!(lines(folder.path()).len(), 3);
    when_free(|| open(settings(folder.path()), 1, TestClock::at(4_000)));
}

#[test]
fn events_are_found_in_any_file_and_what_was_never_written_is_not() {
    let folder = TempDir::new().unwrap();
    let clock = TestClock::at(1_000);
    let settings = Settings { rotate_bytes: 1, ..settings(folder.path()) };
    let (log, queue) = open_at(settings, clock.clone());
    // The clock goes back in the middle: files are then not in the order of time.
    let times = [2_000, 3_000, 4_000, 1_500, 1_600];
    let stored = times.map(|millis| {
        clock.wall_millis.store(millis, Ordering::Relaxed);
        let event = model::event::AccessEvent { id: RequestId::new(millis, 77), ..event(1) };
        queue.reserve(event.id, event.time).unwrap().commit(&event);
        wait_until("written", || log.health().counts().pending_events == 0);
        event
    });
    // One more may be begun already.
    let used = |file: &&std::path::PathBuf| fs::metadata(file).unwrap().len() > 0;
    assert_eq!(files(folder.path()).iter().filter(used).count(), 5);
    for event in &stored {
        assert_eq!(&read::find(folder.path(), event.id).unwrap().unwrap().event, event);
    }
    for (millis, random) in [(2_000, 78), (0, 77), (9_999_999, 77)] {
        assert_eq!(read::find(folder.path(), RequestId::new(millis, random)).unwrap(), None);
    }
}

#[test]
fn an_id_in_the_text_of_another_event_is_not_found() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(settings(folder.path()));
    let wanted = event(1).id;
    let bait = format!("\"uid\":\"{wanted}\"");
    let mut liar =
        model::event::AccessEvent { user_agent: bait.clone().into(), path: bait.into(), ..event(2) };
    // A claim may be called `uid`, and then stands in the line as an id does.
    let decision = liar.decision.as_mut().unwrap().to_mut();
    decision.read.insert("uid".to_owned(), wanted.to_string().into());
    queue.reserve(liar.id, liar.time).unwrap().commit(&liar);
    log.close(LONG).unwrap();
    assert_eq!(read::find(folder.path(), wanted).unwrap(), None);
    assert_eq!(read::find(folder.path(), liar.id).unwrap().unwrap().event, liar);
}

#[test]
fn a_file_that_was_taken_away_is_replaced() {
    let folder = TempDir::new().unwrap();
    let (log, queue) = open_one(settings(folder.path()));
    commit(&queue, 1);
    wait_until("written", || log.health().counts().pending_events == 0);
    fs::remove_file(files(folder.path()).pop().unwrap()).unwrap();
    wait_until("a new file", || !files(folder.path()).is_empty());
    commit(&queue, 2);
    log.close(LONG).unwrap();
    assert_eq!(lines(folder.path()).len(), 1);
}

#[test]
fn nothing_is_written_to_a_file_that_was_taken_away_with_its_folder() {
    let parent = TempDir::new().unwrap();
    let (folder, away) = (parent.path().join("audit"), parent.path().join("away"));
    let (log, queue) = open_one(Settings { queue_events: 8, ..settings(&folder) });
    commit(&queue, 1);
    wait_until("written", || log.health().counts().pending_events == 0);
    fs::rename(&folder, &away).unwrap();
    // Where it was no new file can be begun.
    fs::write(&folder, "").unwrap();
    // Tried before that file was there, it says that there is no such folder.
    wait_until("the log to be bad", || {
        let Status::Bad { reason, .. } = log.health().status() else { return false };
        assert!(reason.starts_with("cannot open "), "{reason}");
        reason.contains("Not a directory")
    });
    let mut committed = 1_u64;
    // The writer takes what comes until its batch is full; then the queue is.
    wait_until("the queue to be full", || {
        let Ok(slot) = queue.reserve(event(0).id, event(0).time) else { return true };
        committed += 1;
        slot.commit_line(|line| {
            crate::record::append(line, &event(committed.into()));
            line.truncate(line.len() - 1);
            line.resize(1 << 18, b' ');
            line.push(b'\n');
        });
        false
    });
    assert_eq!(lines(&away).len(), 1);
    assert!(matches!(log.health().status(), Status::Bad { .. }));

    // The folder again: everything arrives in a new file, and the log is well.
    fs::remove_file(files(&away).pop().unwrap()).unwrap();
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    wait_until("all is written", || log.health().counts().pending_events == 0);
    wait_until("the log to be well", || log.health().status() == Status::Good);
    log.close(LONG).unwrap();
    let found: Vec<_> =
        lines(&folder).iter().map(|line| record::parse(line.as_bytes()).unwrap().event.id).collect();
    assert_eq!(found, (2..=committed).map(|n| event(n.into()).id).collect::<Vec<_>>());
}

#[test]
fn a_log_whose_folder_is_gone_turns_well_without_a_line_to_write() {
    let parent = TempDir::new().unwrap();
    let (folder, away) = (parent.path().join("audit"), parent.path().join("away"));
    let (log, _queue) = open_one(settings(&folder));
    fs::rename(&folder, &away).unwrap();
    wait_until("the log to be bad", || log.health().status() != Status::Good);
    fs::rename(&away, &folder).unwrap();
    wait_until("the log to be well", || log.health().status() == Status::Good);
    // And an end with nothing to write waits for no file.
    fs::rename(&folder, &away).unwrap();
    wait_until("the log to be bad", || log.health().status() != Status::Good);
    log.close(Duration::from_secs(3600)).unwrap();
}

#[test]
fn what_hinders_the_next_file_is_tried_again_now_and_then_and_lines_are_written_on() {
    let folder = TempDir::new().unwrap();
    let clock = TestClock::at(1_000);
    let (log, queue) =
        open_at(Settings { rotate_bytes: 1, keep: 2, ..settings(folder.path()) }, clock.clone());
    let write = |n| {
        commit(&queue, n);
        wait_until("written", || log.health().counts().pending_events == 0);
    };
    write(1);
    // An old file that cannot be removed, as it is a folder.
    let stuck = segment::Segment { number: 0, begun_millis: 0 }.path(folder.path());
    fs::create_dir(&stuck).unwrap();
    (2..20).for_each(write);
    let counts = log.health().counts();
    // Once a second, by its clock.
    let tries_max = clock.looks.load(Ordering::Relaxed) / 1_000 + 1;
    assert!((1..=tries_max).contains(&counts.write_errors), "{counts:?}");
    assert_eq!(log.health().status(), Status::Good);
    fs::remove_dir(&stuck).unwrap();
    wait_until("the old ones to go", || files(folder.path()).len() == 2);
    log.close(LONG).unwrap();
    let last = lines(folder.path()).pop().unwrap();
    assert_eq!(record::parse(last.as_bytes()).unwrap().event.id, event(19).id);
}

/// A file system of 64 KiB, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_shows_in_health() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let folder = disk.0.path().join("audit");
    let (log, queue) = open_one(Settings { queue_events: 64, ..settings(&folder) });
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 24 * 1024]).unwrap();
    // Fills the disk, then the queue, then is refused.
    let mut committed = 0;
    wait_until("the queue is full", || {
        while let Ok(slot) = queue.reserve(event(committed).id, event(committed).time) {
            slot.commit(&event(committed));
            committed += 1;
        }
        matches!(log.health().status(), Status::Bad { .. })
            && queue.reserve(event(0).id, event(0).time).map(|slot| slot.commit(&event(committed))).is_err()
    });
    let Status::Bad { reason, .. } = log.health().status() else { panic!("health is good on a full disk") };
    assert!(reason.contains("No space left"), "{reason}");
    let counts = log.health().counts();
    assert!(counts.pending_events >= 64 && counts.pending_bytes > 0 && counts.write_errors > 0, "{counts:?}");
    assert!(counts.refused > 0);
    let sent = counts.written_events + counts.pending_events;
    let unwritten = log.flush(Duration::from_millis(20)).unwrap_err().to_string();
    assert!(unwritten.contains("No space left"), "{unwritten}");

    // Room again: everything arrives, once, in order, and no line is torn.
    fs::remove_file(&ballast).unwrap();
    fs::File::open(&folder).unwrap();
    let enlarged = Command::new("mount").args(["-o", "remount,size=4m"]).arg(disk.0.path()).status().unwrap();
    assert!(enlarged.success());
    log.flush(LONG).unwrap();
    assert_eq!(log.health().counts().pending_events, 0);
    wait_until("the log to be well", || log.health().status() == Status::Good);
    log.close(LONG).unwrap();
    let lines = lines(&folder);
    assert_eq!(lines.len() as u64, sent);
    for line in &lines {
        record::parse(line.as_bytes()).unwrap();
    }
}

#[test]
fn a_log_that_is_to_have_room_is_not_opened_without() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let folder = disk.0.path().join("audit");
    let with = |room_bytes| Settings { room_bytes, ..settings(&folder) };
    let full = open(with(1 << 30), 1, TestClock::at(1_000)).unwrap_err().to_string();
    assert!(full.contains("make room in") && full.contains("No space left"), "{full}");
    let (log, queue) = open_one(with(8 * 1024));
    queue.reserve(event(0).id, event(0).time).unwrap().commit(&event(0));
    log.flush(LONG).unwrap();
    log.close(LONG).unwrap();
    assert_eq!(lines(&folder).len(), 1, "the room is no part of the file");
}

#[test]
fn a_disk_that_stays_full_leaves_whole_lines_and_a_count_of_the_lost() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let folder = disk.0.path().join("audit");
    let (log, queue) = open_one(Settings { queue_events: 1024, ..settings(&folder) });
    for n in 0..200 {
        commit(&queue, n);
    }
    wait_until("the disk is full", || log.health().status() != Status::Good);
    let Error::Unwritten { events, reason } = log.close(Duration::from_millis(50)).unwrap_err() else {
        panic!("expected a count of what was lost")
    };
    assert!(reason.contains("No space left"), "{reason}");
    let lines = lines(&folder);
    assert!(!lines.is_empty());
    assert_eq!(lines.len() as u64 + events, 200);
    for line in &lines {
        record::parse(line.as_bytes()).unwrap();
    }
    let content = fs::read(files(&folder).pop().unwrap()).unwrap();
    assert!(content.ends_with(b"\n"));
}

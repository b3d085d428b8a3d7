//! Whose the port is behind which the program of `bastide run` is: whoever listens there gets the service's calls.
//!
//! The kernel says of each listening socket whose it is (proc_pid_net(5), `/proc/net/tcp`). It has to be that of root,
//! of this process' user, of a process of the program (who began as root may have laid that down, and who was started
//! may start others), or of a user that the operator has named.
//!
//! What it must never do: let a call go to a listener of another user.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, geteuid};
use socket2::{Domain, Socket, Type};

/// Where the kernel lists all sockets.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_LISTEN`, as the kernel writes it.
const LISTENS: &str = "0A";

/// The port of a program.
#[derive(Debug)]
pub struct ProgramPort {
    /// The service that it is.
    pub service: String,
    port: u16,
    /// Who may listen there besides.
    named: BTreeSet<u32>,
    found: Mutex<Found>,
    /// Bound to the port, so that nobody else is given it before the program is started.
    reserved: Mutex<Option<Socket>>,
}

/// What was found out about a program.
#[derive(Debug, Default)]
struct Found {
    program: Option<Pid>,
    /// Users that its processes had.
    users: BTreeSet<u32>,
}

impl ProgramPort {
    /// The port of a service's program, where these users may listen besides.
    pub fn new(service: &str, port: u16, named: &[u32]) -> Self {
        Self {
            service: service.to_owned(),
            port,
            named: named.iter().copied().collect(),
            found: Mutex::default(),
            reserved: Mutex::default(),
        }
    }

    /// The same with a port that is free, and nobody else's until [`Self::release`].
    ///
    /// # Errors
    /// There is none.
    pub fn reserve(service: &str, named: &[u32]) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok(Self { reserved: Mutex::new(Some(socket)), ..Self::new(service, port, named) })
    }

    /// The program is started now, and may take its port.
    pub fn release(&self) {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port)
    }

    /// Before the program is started: nobody listens there, unless they were named.
    ///
    /// # Errors
    /// Who does.
    pub fn is_free(&self) -> Result<(), String> {
        match self.listeners()?.iter().find(|uid| !self.named.contains(uid)) {
            None => Ok(()),
            Some(uid) => Err(format!(
                "a process of the user {uid} listens at {} already, where the program is to listen: end it, choose \
                 another port (--to), or say that it is meant (--listener-uid {uid})",
                self.address()
            )),
        }
    }

    /// The program runs.
    pub fn started(&self, program: Option<Pid>) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).program = program;
    }

    /// Whether whoever listens there may have the service's calls. Where nobody does, connecting says so.
    ///
    /// # Errors
    /// Who listens, or why that cannot be said.
    pub fn check(&self) -> Result<(), String> {
        self.judge(&self.listeners()?, "listens")
    }

    /// Whether whoever took a connection of ours may have the service's calls. Who listened before it was opened need
    /// not be who took it: where nobody listens any more, it is asked whose its other end is.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_taken(&self, own_end: SocketAddr) -> Result<(), String> {
        let listeners = self.listeners()?;
        if !listeners.is_empty() {
            return self.judge(&listeners, "listens");
        }
        // What a listener has not given to its process yet has gone with it.
        let mut ends = BTreeSet::new();
        for place in TABLES {
            ends.extend(taken(place, self.port, own_end)?);
        }
        self.judge(&ends, "listened")
    }

    /// Whether all of these users may have the service's calls.
    fn judge(&self, users: &BTreeSet<u32>, what: &str) -> Result<(), String> {
        let own = geteuid().as_raw();
        let is_known = |uid: &u32| *uid == 0 || *uid == own || self.named.contains(uid);
        match users.iter().find(|uid| !is_known(uid) && !self.is_of_program(**uid)) {
            None => Ok(()),
            Some(uid) => Err(format!(
                "a process of the user {uid} {what} at {}, and the program has none of that user",
                self.address()
            )),
        }
    }

    /// Whether a process of the program has, or had, this user.
    fn is_of_program(&self, uid: u32) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Found { program, users } = &mut *found;
        if let Some(program) = program.filter(|_| !users.contains(&uid)) {
            users.extend(users_of(Path::new("/proc"), program));
        }
        users.contains(&uid)
    }

    fn listeners(&self) -> Result<BTreeSet<u32>, String> {
        let mut all = Vec::new();
        for place in TABLES {
            all.extend(listening(place, self.port)?);
        }
        Ok(reached(&all))
    }
}

/// Whose sockets take what is sent to 127.0.0.1: those that are bound to it, where there are none those that are
/// bound to every address, and of those the ones of IPv4 first, as the kernel chooses (`inet_lookup_listener`).
fn reached(all: &[(IpAddr, u32)]) -> BTreeSet<u32> {
    let each = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let at = |address: IpAddr| all.iter().filter(move |(bound, _)| bound.to_canonical() == address);
    each.iter()
        .map(|address| at(*address).map(|(_, uid)| *uid).collect::<BTreeSet<_>>())
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// The listening sockets of a port. The kernel lists them before all others, which are not read.
fn listening(place: &str, port: u16) -> Result<Vec<(IpAddr, u32)>, String> {
    let mut found = Vec::new();
    listed(place, |socket| {
        if socket.listens && socket.local.1 == port {
            found.push((socket.local.0, socket.uid));
        }
        socket.listens
    })?;
    Ok(found)
}

/// Whose the end of a connection is that has this port, and the other one at its other end.
fn taken(place: &str, port: u16, other_end: SocketAddr) -> Result<Option<u32>, String> {
    let other_end = (other_end.ip().to_canonical(), other_end.port());
    let mut found = None;
    listed(place, |socket| {
        let (address, at) = socket.remote;
        let is_it = socket.local.1 == port && (address.to_canonical(), at) == other_end;
        found = found.or(is_it.then_some(socket.uid));
        found.is_none()
    })?;
    Ok(found)
}

/// A socket, as the kernel lists it.
struct Listed {
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
    listens: bool,
    uid: u32,
}

impl Listed {
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let [_, local, remote, state, _, _, _, uid] = fields[..] else { return None };
        let (local, remote) = (bound(local)?, bound(remote)?);
        Some(Self { local, remote, listens: state == LISTENS, uid: uid.parse().ok()? })
    }
}

/// Shows the sockets of a table, as long as more of them are wanted.
fn listed(place: &str, mut wants_more: impl FnMut(Listed) -> bool) -> Result<(), String> {
    let wrong = |what: String| format!("{place}, which says who listens: {what}");
    let file = match File::open(place) {
        // A machine without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.ends_with('6') => return Ok(()),
        file => file.map_err(|error| wrong(error.to_string()))?,
    };
    for line in BufReader::new(file).lines().skip(1) {
        let line = line.map_err(|error| wrong(error.to_string()))?;
        let socket = Listed::read(&line).ok_or_else(|| wrong(format!("{line:?} is not understood")))?;
        if !wants_more(socket) {
            break;
        }
    }
    Ok(())
}

/// `0100007F:1F90`: words of four bytes, as they lie in memory, and a port.
fn bound(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<[u8; 4]>>>()?.concat();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Some((Ipv4Addr::from(bytes).into(), port)),
        Err(_) => Some((Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(), port)),
    }
}

/// The users of a program's processes: of those that it has started, and theirs, and of its process group.
fn users_of(proc: &Path, program: Pid) -> BTreeSet<u32> {
    let program = program.as_raw_nonzero().get();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let processes: Vec<Process> = entries.filter_map(|entry| Process::read(&entry.path())).collect();
    let mut own: BTreeSet<i32> =
        processes.iter().filter(|one| one.id == program || one.group == program).map(|one| one.id).collect();
    loop {
        let before = own.len();
        let children = processes.iter().filter(|one| own.contains(&one.parent)).map(|one| one.id);
        own.extend(children.collect::<Vec<_>>());
        if own.len() == before {
            break;
        }
    }
    processes.iter().filter(|one| own.contains(&one.id)).flat_map(|one| one.users).collect()
}

struct Process {
    id: i32,
    parent: i32,
    group: i32,
    /// Real, effective, saved, of the file system.
    users: [u32; 4],
}

impl Process {
    /// `None`: it has ended, or the folder is no process'.
    fn read(folder: &Path) -> Option<Self> {
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // `ID (NAME) STATE PARENT GROUP …`, and a name may have anything in it.
        let mut after = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
        let (parent, group) = (after.next()?.parse().ok()?, after.next()?.parse().ok()?);
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let users = users.split_ascii_whitespace().map(|uid| uid.parse().ok());
        let users = users.collect::<Option<Vec<u32>>>()?.try_into().ok()?;
        Some(Self { id, parent, group, users })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_port_that_was_chosen_is_nobody_elses_before_the_program_is_started() {
        let port = ProgramPort::reserve("orders", &[]).unwrap();
        assert_eq!(port.is_free(), Ok(()));
        for address in ["127.0.0.1", "0.0.0.0"] {
            assert!(TcpListener::bind((address, port.address().port())).is_err(), "{address}");
        }
        port.release();
        let _program = TcpListener::bind(port.address()).unwrap();
        assert!(port.is_free().is_err());
    }

    #[test]
    fn a_listener_is_found_by_its_address_and_port() {
        let own = geteuid().as_raw();
        // Keeps the port from others, without listening.
        let reserved = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        reserved.set_reuse_address(true).unwrap();
        reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let number = reserved.local_addr().unwrap().as_socket().unwrap().port();
        for (address, is_reached) in [("127.0.0.1", true), ("0.0.0.0", true), ("127.0.0.2", false)] {
            let listener = TcpListener::bind((address, number)).unwrap();
            let port = ProgramPort::new("orders", number, &[]);
            let expected: BTreeSet<u32> = is_reached.then_some(own).into_iter().collect();
            assert_eq!(port.listeners().unwrap(), expected, "{address}");
            assert_eq!(port.is_free().is_err(), is_reached, "{address}");
            let named = ProgramPort::new("orders", port.port, &[own]);
            assert_eq!((named.is_free(), named.check()), (Ok(()), Ok(())));
            // Our own user's, and so no other's than the program's.
            assert_eq!(port.check(), Ok(()));
            drop(listener);
            // A program that another test begins at this moment has it until it has become that program.
            for _ in 0..500 {
                if port.is_free().is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert_eq!((port.is_free(), port.check()), (Ok(()), Ok(())), "{address}");
        }
        if let Ok(_listener) = TcpListener::bind(("::", number)) {
            let port = ProgramPort::new("orders", number, &[]);
            assert_eq!(port.listeners(), Ok(BTreeSet::from([own])));
        }
    }

    #[test]
    fn of_several_listeners_it_is_the_nearest() {
        let [exact, every, mapped, both] =
            ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::"].map(|text| text.parse::<IpAddr>().unwrap());
        let other: IpAddr = "127.0.0.2".parse().unwrap();
        for (all, expected) in [
            (vec![(exact, 1), (every, 2), (both, 3)], vec![1]),
            (vec![(mapped, 1), (exact, 4), (every, 2)], vec![1, 4]),
            (vec![(both, 3), (every, 2), (other, 4)], vec![2]),
            (vec![(both, 3), (other, 4)], vec![3]),
            (vec![(other, 4), ("::1".parse().unwrap(), 5)], vec![]),
        ] {
            assert_eq!(reached(&all), expected.into_iter().collect(), "{all:?}");
        }
        assert_eq!(bound("0100007F:1F90"), Some((exact, 8080)).filter(|_| cfg!(target_endian = "little")));
        for odd in
            ["", ":", "0100007F", "0100007:1F90", "0100007F0100007F:1F90", "x100007F:1F90", "0100007F:1F901"]
        {
            assert!(bound(odd).is_none_or(|(address, _)| address.is_ipv4() && odd.len() == 12), "{odd}");
        }
    }

    /// A listener of another user, which listens no more once it has taken a connection that it was told to take.
    struct Other {
        child: std::process::Child,
        said: BufReader<std::process::ChildStdout>,
        port: u16,
    }

    impl Other {
        fn start(uid: u32) -> Self {
            let code = "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1])); \
                        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); \
                        c = s.accept() if sys.stdin.readline() else None; s.close(); print('took', flush=True); \
                        sys.stdin.read()";
            let mut command = Command::new("sh");
            command.args(["-c", r#"python3 -c "$0" "$1"; :"#, code, &uid.to_string()]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            let mut other = Self { child, said, port: 0 };
            other.port = other.says().parse().unwrap();
            other
        }

        fn says(&mut self) -> String {
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            line.trim().to_owned()
        }

        fn takes_one(&mut self) {
            self.child.stdin.as_mut().unwrap().write_all(b"take\n").unwrap();
            assert_eq!(self.says(), "took");
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            drop(self.child.stdin.take());
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn a_listener_of_another_user_is_the_programs_only_where_the_program_has_such_a_process() {
        const OTHER: u32 = 4_009;
        if !geteuid().is_root() {
            println!("skipped: only root starts processes of other users");
            return;
        }
        let other = Other::start(OTHER);
        let port = ProgramPort::new("orders", other.port, &[]);
        let why = port.check().unwrap_err();
        assert!(why.contains("the user 4009 listens at 127.0.0.1:"), "{why}");
        assert!(port.is_free().unwrap_err().contains("--listener-uid 4009"));
        // A program that has nothing to do with it, and one that started it, which has a user of its own.
        port.started(Pid::from_raw(i32::try_from(std::process::id()).unwrap() + 1));
        assert!(port.check().is_err());
        port.started(Pid::from_raw(i32::try_from(other.child.id()).unwrap()));
        assert_eq!(port.check(), Ok(()));
        let named = ProgramPort::new("orders", other.port, &[OTHER]);
        assert_eq!((named.is_free(), named.check()), (Ok(()), Ok(())));
    }

    /// It listened for one connection, which was opened when nobody listened a moment before.
    #[test]
    fn who_took_a_connection_is_known_when_nobody_listens_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = ProgramPort::new("orders", listener.local_addr().unwrap().port(), &[]);
        let ours = TcpStream::connect(port.address()).unwrap();
        let own_end = ours.local_addr().unwrap();
        assert_eq!(port.check_taken(own_end), Ok(()));
        let (_theirs, _) = listener.accept().unwrap();
        drop(listener);
        let all = TABLES.map(|place| taken(place, port.port, own_end).unwrap());
        assert_eq!(all, [Some(geteuid().as_raw()), None]);
        assert_eq!((port.check(), port.check_taken(own_end)), (Ok(()), Ok(())));
        if !geteuid().is_root() {
            println!("skipped: only root starts processes of other users");
            return;
        }
        let mut other = Other::start(4_009);
        let port = ProgramPort::new("orders", other.port, &[]);
        let ours = TcpStream::connect(port.address()).unwrap();
        let own_end = ours.local_addr().unwrap();
        assert!(port.check_taken(own_end).unwrap_err().contains("the user 4009 listens at 127.0.0.1:"));
        other.takes_one();
        assert_eq!(port.check(), Ok(()), "nobody listens");
        assert!(port.check_taken(own_end).unwrap_err().contains("the user 4009 listened at 127.0.0.1:"));
        let named = ProgramPort::new("orders", other.port, &[4_009]);
        assert_eq!(named.check_taken(own_end), Ok(()));
    }

    #[test]
    fn processes_belong_to_whom_their_parents_and_group_say() {
        let folder = tempfile::tempdir().unwrap();
        for (id, parent, group, user) in [
            (10, 1, 10, 1_000),
            (11, 10, 10, 1_001),
            (12, 11, 12, 1_002),
            // Whose parent has ended.
            (13, 1, 10, 1_003),
            (14, 13, 14, 1_004),
            (20, 1, 20, 2_000),
            (21, 20, 20, 2_001),
        ] {
            let of = folder.path().join(id.to_string());
            std::fs::create_dir(&of).unwrap();
            std::fs::write(of.join("stat"), format!("{id} (a) b) 1 2) S {parent} {group} 0 0")).unwrap();
            let uid = format!("Name:\tx\nUid:\t{user}\t{user}\t{user}\t{user}\nGid:\t0\t0\t0\t0\n");
            std::fs::write(of.join("status"), uid).unwrap();
        }
        std::fs::create_dir(folder.path().join("self")).unwrap();
        std::fs::create_dir(folder.path().join("30")).unwrap();
        let users = users_of(folder.path(), Pid::from_raw(10).unwrap());
        assert_eq!(users, (1_000..=1_004).collect());
        assert_eq!(users_of(folder.path(), Pid::from_raw(30).unwrap()), BTreeSet::new());
    }
}

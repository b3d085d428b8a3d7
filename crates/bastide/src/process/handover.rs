//! One process hands its listening sockets, its locks and its admin socket to the next:
//! an upgrade without a moment in which nobody listens.
//!
//! The old process listens on a socket in its state folder. The new one connects, gets
//! one descriptor after the other (`SCM_RIGHTS`, unix(7)), each with a line that says
//! what it is and answered with one byte, builds everything, serves, and says `ready`.
//! Only then does the old one drain. When the new one fails before that, the old one
//! goes on as if nothing had been.

use std::fs::Permissions;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use proxy::listen::Inherited;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// The socket in the state folder.
pub const SOCKET: &str = "handover.sock";
/// How long the new process may take to serve.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long either side waits for the other's next byte otherwise.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 1024;
/// Most descriptors of one hand-over.
const ITEMS_MAX: usize = 4096;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// A listening socket of one core.
    Listener {
        /// The address as configured.
        configured: SocketAddr,
        /// How many listeners before it are configured with the same one.
        ordinal: u16,
        /// The address that it has.
        bound: SocketAddr,
    },
    /// The claim on a listener's address.
    Claim {
        /// The address as configured.
        configured: SocketAddr,
        /// See above.
        ordinal: u16,
    },
    /// The admin listener.
    Admin,
    /// The listener for agents.
    Agents {
        /// The address as configured.
        configured: SocketAddr,
    },
    /// The lock on the state folder.
    StateLock,
    /// The lock on the audit log.
    AuditLock,
    /// That was all; carries no descriptor.
    End,
}

/// Everything that is handed over.
#[derive(Debug, Default)]
pub struct HandoverResources {
    /// Listeners.
    pub listeners: Vec<Inherited>,
    /// The admin listener.
    pub admin: Option<TcpListener>,
    /// The listener for agents, with its address as configured.
    pub agents: Option<(SocketAddr, TcpListener)>,
    /// The lock on the state folder.
    pub state_lock: Option<OwnedFd>,
    /// The lock on the audit log.
    pub audit_lock: Option<OwnedFd>,
}

impl HandoverResources {
    fn into_items(self) -> Vec<(Item, OwnedFd)> {
        let mut items = Vec::new();
        for listener in self.listeners {
            let (configured, ordinal) = (listener.key.address, listener.key.ordinal);
            let bound = listener.address;
            for socket in listener.sockets {
                items.push((Item::Listener { configured, ordinal, bound }, socket.into()));
            }
            items.extend(listener.claim.map(|claim| (Item::Claim { configured, ordinal }, claim.into())));
        }
        items.extend(self.admin.map(|socket| (Item::Admin, socket.into())));
        items.extend(self.agents.map(|(configured, socket)| (Item::Agents { configured }, socket.into())));
        items.extend(self.state_lock.map(|lock| (Item::StateLock, lock)));
        items.extend(self.audit_lock.map(|lock| (Item::AuditLock, lock)));
        items
    }

    fn take(&mut self, item: Item, descriptor: OwnedFd) {
        match item {
            Item::Listener { configured, ordinal, bound } => {
                let key = proxy::ListenerKey { address: configured, ordinal };
                let place = self.place(key, bound);
                if let Some(listener) = self.listeners.get_mut(place) {
                    listener.sockets.push(descriptor.into());
                }
            }
            Item::Claim { configured, ordinal } => {
                let key = proxy::ListenerKey { address: configured, ordinal };
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.key == key) {
                    listener.claim = Some(descriptor.into());
                }
            }
            Item::Admin => self.admin = Some(descriptor.into()),
            Item::Agents { configured } => self.agents = Some((configured, descriptor.into())),
            Item::StateLock => self.state_lock = Some(descriptor),
            Item::AuditLock => self.audit_lock = Some(descriptor),
            Item::End => {}
        }
    }

    fn place(&mut self, key: proxy::ListenerKey, bound: SocketAddr) -> usize {
        if let Some(place) = self.listeners.iter().position(|listener| listener.key == key) {
            return place;
        }
        self.listeners.push(Inherited { key, address: bound, sockets: Vec::new(), claim: None });
        self.listeners.len() - 1
    }
}

/// The old process' side: hands everything over and waits until the new one serves.
/// Blocks. Gives the new process' id.
///
/// # Errors
/// The new process went away, or was too slow: nothing has changed then.
pub fn give(stream: &UnixStream, resources: HandoverResources) -> io::Result<u32> {
    stream.set_read_timeout(Some(STEP_WITHIN))?;
    stream.set_write_timeout(Some(STEP_WITHIN))?;
    let items = resources.into_items();
    for (item, descriptor) in &items {
        send(stream, *item, Some(descriptor))?;
        let mut taken = [0];
        (&mut &*stream).read_exact(&mut taken)?;
    }
    send(stream, Item::End, None)?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX as u64)).read_line(&mut line)?;
    let process = line.strip_prefix("ready ").and_then(|id| id.trim_end().parse().ok());
    process
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the new process ended before it served"))
}

fn send(stream: &UnixStream, item: Item, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&item)?;
    line.push(b'\n');
    let mut space = [const { std::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = retry_on_intr(|| sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL))?;
    // The descriptor went with the first byte.
    (&mut &*stream).write_all(line.get(sent..).unwrap_or_default())
}

/// The new process' side.
#[derive(Debug)]
pub struct TakenOver {
    stream: UnixStream,
}

impl TakenOver {
    /// Whether the old process still waits: one that has given up goes on, and keeps what it has.
    ///
    /// # Errors
    /// It does not.
    pub fn is_awaited(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let read = (&self.stream).read(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Tells the old process that this one serves.
    ///
    /// # Errors
    /// The old process has gone.
    pub fn ready(mut self) -> io::Result<()> {
        writeln!(self.stream, "ready {}", std::process::id())
    }
}

/// Takes everything over from the process on this state folder. Blocks.
///
/// # Errors
/// No process runs there, or it did not hand everything over.
pub fn take(state: &Path) -> anyhow::Result<(HandoverResources, TakenOver)> {
    let path = state.join(SOCKET);
    let stream = UnixStream::connect(&path).with_context(|| {
        format!("no process to take over from ({}): start without --take-over", path.display())
    })?;
    stream.set_read_timeout(Some(STEP_WITHIN))?;
    stream.set_write_timeout(Some(STEP_WITHIN))?;
    let mut resources = HandoverResources::default();
    for _ in 0..ITEMS_MAX {
        let (item, descriptor) = receive(&stream).context("taking over")?;
        match (item, descriptor) {
            (Item::End, _) => return Ok((resources, TakenOver { stream })),
            (item, Some(descriptor)) => resources.take(item, descriptor),
            (item, None) => anyhow::bail!("taking over: {item:?} came without its descriptor"),
        }
        (&mut &stream).write_all(b".")?;
    }
    anyhow::bail!("taking over: more than {ITEMS_MAX} descriptors")
}

/// One line, and the descriptor that came with it.
fn receive(stream: &UnixStream) -> io::Result<(Item, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    loop {
        let mut space = [const { std::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; LINE_BYTES_MAX];
        // A process that was stopped for a moment is interrupted, for its waits have an end.
        let got = retry_on_intr(|| {
            recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.into_iter().next().or(descriptor);
            }
        }
        line.extend_from_slice(bytes.get(..got.bytes).unwrap_or_default());
        let ended = line.last() == Some(&b'\n');
        if got.bytes == 0 || (!ended && line.len() >= LINE_BYTES_MAX) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the old process broke off"));
        }
        if ended {
            return Ok((serde_json::from_slice(&line)?, descriptor));
        }
    }
}

/// Opens the socket at which the next process asks. One that an ended process left is
/// replaced; the state folder's lock says that no other runs.
///
/// # Errors
/// What the system said.
pub fn offer(state: &Path) -> io::Result<UnixListener> {
    let path = state.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let listener = UnixListener::bind(&path)?;
            // The folder keeps others out too; a copy of it, or one whose mode was changed, does not.
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> HandoverResources {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (socket(), socket());
        let address = one.local_addr().unwrap();
        let key = proxy::ListenerKey { address: "127.0.0.1:0".parse().unwrap(), ordinal: 1 };
        let listener = Inherited { key, address, sockets: vec![one, two], claim: None };
        let agents = Some((key.address, socket()));
        HandoverResources {
            listeners: vec![listener],
            admin: Some(socket()),
            agents,
            ..HandoverResources::default()
        }
    }

    #[test]
    fn what_is_given_is_taken_and_still_listens() {
        let folder = tempfile::tempdir().unwrap();
        let listener = offer(folder.path()).unwrap();
        let given = resources();
        let address = given.listeners[0].address;
        let admin = given.admin.as_ref().unwrap().local_addr().unwrap();
        let agents = given.agents.as_ref().map(|(_, socket)| socket.local_addr().unwrap());
        let old = std::thread::spawn(move || give(&listener.accept().unwrap().0, given).unwrap());
        let (taken, next) = take(folder.path()).unwrap();
        assert_eq!((taken.listeners.len(), taken.listeners[0].sockets.len()), (1, 2));
        assert_eq!((taken.listeners[0].key.ordinal, taken.listeners[0].address), (1, address));
        assert_eq!(taken.admin.as_ref().unwrap().local_addr().unwrap(), admin);
        let (configured, socket) = taken.agents.as_ref().unwrap();
        assert_eq!((configured.port(), Some(socket.local_addr().unwrap())), (0, agents));
        next.is_awaited().unwrap();
        next.ready().unwrap();
        assert_eq!(old.join().unwrap(), std::process::id());
        std::net::TcpStream::connect(address).unwrap();
        assert!(taken.listeners[0].sockets[0].accept().is_ok());
        drop(taken);
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn one_that_ends_before_it_serves_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(take(folder.path()).is_err());
        let listener = offer(folder.path()).unwrap();
        let old = std::thread::spawn(move || give(&listener.accept().unwrap().0, resources()));
        drop(take(folder.path()).unwrap());
        assert!(old.join().unwrap().is_err());
        // Nor is anybody told who has given up.
        let (given_up, other_end) = UnixStream::pair().unwrap();
        let late = TakenOver { stream: given_up };
        late.is_awaited().unwrap();
        drop(other_end);
        assert!(late.is_awaited().is_err());
        // What an ended process left is replaced.
        assert!(offer(folder.path()).is_ok());
    }
}

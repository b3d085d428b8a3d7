//! Who is at the other end of a Unix socket: what the kernel says of the process.
//!
//! The process is held by its pidfd from the moment of the connection (`SO_PEERPIDFD`,
//! Linux 6.5). What is read under its number in `/proc` counts only if it still runs
//! afterwards: only then was the number its own all the while.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

use crate::digest::{Digest, Executable, FileState};

/// Largest file of `/proc` that is read, bytes.
const PROC_BYTES_MAX: u64 = 64 * 1024;

/// The process at the other end of a connection.
#[derive(Debug)]
pub struct Caller {
    /// Its number in this process' namespace.
    pub pid: i32,
    /// Its user when it connected.
    pub uid: u32,
    /// Its group when it connected.
    pub gid: u32,
    held: OwnedFd,
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its executable; `None`: it cannot be read, or was replaced since it started.
    pub path: Option<String>,
    /// Whether that names the same file to us: in a mount namespace of its own a process, of whatever
    /// user, calls its executable as it likes.
    pub is_path_ours: bool,
    /// The SHA-256 of that, lower-case hexadecimal, when it was asked for.
    pub sha256: Option<String>,
    /// The unit of the system's systemd that it runs in.
    pub unit: Option<String>,
    /// The id of the container that it runs in, 64 hexadecimal digits.
    pub container: Option<String>,
}

/// Why nothing is known of a process.
#[derive(Debug, thiserror::Error)]
pub enum Unattested {
    /// The kernel does not say who is connected.
    #[error("the kernel does not say who is connected (SO_PEERPIDFD needs Linux 6.5): {0}")]
    Kernel(std::io::Error),
    /// It is no more.
    #[error("the process {0} has ended, or is of another PID namespace")]
    Gone(i32),
}

impl Caller {
    /// Who is at the other end of a connected Unix socket.
    ///
    /// # Errors
    /// [`Unattested::Kernel`]: there is no falling back to the bare number, which may be
    /// another process' by now.
    pub fn of(socket: &impl AsFd) -> Result<Self, Unattested> {
        let kernel = |error: nix::Error| Unattested::Kernel(error.into());
        let credentials = getsockopt(socket, sockopt::PeerCredentials).map_err(kernel)?;
        let held = getsockopt(socket, sockopt::PeerPidfd).map_err(kernel)?;
        Ok(Self { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid(), held })
    }

    /// What is known of it now. Reads files; the digest of its executable is known only if one is given, and
    /// that is still the file that it was made of.
    ///
    /// # Errors
    /// [`Unattested::Gone`]: it has ended; what was read may be another's.
    pub(crate) fn facts(&self, digest: Option<&Digest>) -> Result<Facts, Unattested> {
        let folder = self.folder();
        let executable = folder.join("exe");
        let path = std::fs::read_link(&executable).ok().and_then(|path| executable_name(&path));
        let is_path_ours = path.as_ref().is_some_and(|path| is_same(&executable, Path::new(path)));
        let digest = digest.filter(|digest| path.is_some() && FileState::at(&executable) == Some(digest.of));
        let sha256 = digest.map(|digest| digest.sha256.clone());
        let groups = read(&folder.join("cgroup")).unwrap_or_default();
        let (unit, container) = (unit(&groups), container(&groups, is_roots_alone));
        let (pid, uid, gid) = (self.pid, self.uid, self.gid);
        let facts = Facts { pid, uid, gid, path, is_path_ours, sha256, unit, container };
        match self.number() {
            Some(number) if number == self.pid => Ok(facts),
            _ => Err(Unattested::Gone(self.pid)),
        }
    }

    /// Its executable, open.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub(crate) fn executable(&self) -> std::io::Result<Executable> {
        Executable::open(&self.folder().join("exe"))
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// The number of the held process; `None` once it has ended.
    fn number(&self) -> Option<i32> {
        let place = format!("/proc/self/fdinfo/{}", self.held.as_raw_fd());
        let text = read(Path::new(&place)).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        number.trim().parse().ok().filter(|number| *number > 0)
    }
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    file(one).is_some_and(|found| Some(found) == file(other))
}

/// A replaced binary shows as `… (deleted)`: the name says nothing about what runs.
fn executable_name(path: &Path) -> Option<String> {
    let name = path.to_str()?;
    (!name.ends_with(" (deleted)")).then(|| name.to_owned())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(PROC_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The path of a process in the hierarchy of groups by which systemd, or whoever starts containers, knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group<'a> {
    hierarchy: Hierarchy,
    path: &'a str,
}

/// Which hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// The unified one (cgroup v2).
    Unified,
    /// Systemd's own (v1).
    Systemd,
}

impl Hierarchy {
    /// Where it is mounted (systemd, "cgroup delegation"; where both are there, v2 is beside v1).
    fn mounted(self) -> &'static Path {
        let beside = Path::new("/sys/fs/cgroup/unified");
        match self {
            Self::Systemd => Path::new("/sys/fs/cgroup/systemd"),
            Self::Unified if beside.is_dir() => beside,
            Self::Unified => Path::new("/sys/fs/cgroup"),
        }
    }
}

/// The path in the unified hierarchy, or systemd's own. Below `user.slice` a user makes groups of any name:
/// nothing there says who runs.
fn group(groups: &str) -> Option<Group<'_>> {
    // `number:controllers:path`, and a path may have colons: whoever makes groups chooses theirs.
    let of = |wanted: (Option<&str>, &str)| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = wanted.0.is_none_or(|wanted| wanted == number) && controllers == wanted.1;
            is_it.then_some(path)
        })
    };
    let unified = of((Some("0"), "")).filter(|path| *path != "/");
    let group = match unified {
        Some(path) => Group { hierarchy: Hierarchy::Unified, path },
        None => Group { hierarchy: Hierarchy::Systemd, path: of((None, "name=systemd"))? },
    };
    let path = group.path;
    (!path.starts_with("/user.slice/") && !path.contains("/../")).then_some(group)
}

/// `/system.slice/orders.service` is the unit `orders.service`; what the service makes
/// below itself changes nothing.
fn unit(groups: &str) -> Option<String> {
    let parts = group(groups)?.path.strip_prefix("/system.slice/")?.split('/');
    let unit = parts.into_iter().find(|part| part.ends_with(".service") || part.ends_with(".scope"));
    unit.map(str::to_owned)
}

/// `…/docker-ID.scope`, `…/cri-containerd-ID.scope`, `/docker/ID`, `…/libpod-ID`. Below a unit
/// that is no container, its service makes groups of any name, and so does whoever was given a folder of
/// groups: nothing there says who runs.
fn container(groups: &str, is_roots_alone: impl Fn(&Path) -> bool) -> Option<String> {
    let id = |part: &str| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
        let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| id.to_owned())
    };
    let is_unit = |part: &str| part.ends_with(".service") || part.ends_with(".scope");
    let Group { hierarchy, path } = group(groups)?;
    let mut above = hierarchy.mounted().to_path_buf();
    for part in path.split('/') {
        match id(part) {
            Some(id) => return is_roots_alone(&above).then_some(id),
            None if is_unit(part) => return None,
            None => above.push(part),
        }
    }
    None
}

/// Whether nobody but root makes anything in a folder.
fn is_roots_alone(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests;

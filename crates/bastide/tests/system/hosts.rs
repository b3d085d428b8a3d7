//! Hosts of a network of their own, as network namespaces: the control plane's, a caller's and a
//! callee's, each two of them joined by a cable that can be cut. They are gone when the test ends,
//! however it ends.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Control,
    Caller,
    Callee,
}

impl Host {
    const ALL: [Self; 3] = [Self::Control, Self::Caller, Self::Callee];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// Two hosts, and their addresses at the ends of the cable between them. Cut, it is pulled out at
/// the first one: the other one sees that there is no signal.
pub(crate) type Cable = ([Host; 2], [&'static str; 2]);

pub(crate) const CONTROL_TO_CALLER: Cable = ([Host::Control, Host::Caller], ["10.66.1.1", "10.66.1.2"]);
pub(crate) const CONTROL_TO_CALLEE: Cable = ([Host::Control, Host::Callee], ["10.66.2.1", "10.66.2.2"]);
pub(crate) const CALLEE_TO_CALLER: Cable = ([Host::Callee, Host::Caller], ["10.66.3.1", "10.66.3.2"]);
const CABLES: [Cable; 3] = [CONTROL_TO_CALLER, CONTROL_TO_CALLEE, CALLEE_TO_CALLER];

/// The network.
pub(crate) struct Hosts {
    /// What the names of its namespaces begin with.
    prefix: String,
}

impl Hosts {
    /// Builds it. `None`, and a word about it: it may not be had here, so that `tested` is not.
    pub(crate) fn build(tested: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let hosts = Self { prefix: format!("bastide-{}-{count}", std::process::id()) };
        if let Err(why) = ip(&["netns", "add", &hosts.namespace(Host::Control)]) {
            all_or_skip(
                tested,
                &format!("no network namespaces, which take root and Debian's iproute2: {why}"),
            );
            return None;
        }
        hosts.plug();
        Some(hosts)
    }

    fn plug(&self) {
        let set = |arguments: &[&str]| ip(arguments).unwrap();
        for host in Host::ALL {
            let namespace = self.namespace(host);
            if host != Host::Control {
                set(&["netns", "add", &namespace]);
            }
            set(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        for ([one, other], addresses) in CABLES {
            let [at_one, at_other] = [one, other].map(|host| self.namespace(host));
            let (to_one, to_other) = (port(one), port(other));
            set(&[
                "-n", &at_one, "link", "add", &to_other, "type", "veth", "peer", "name", &to_one, "netns",
                &at_other,
            ]);
            for (namespace, port, address) in
                [(&at_one, &to_other, addresses[0]), (&at_other, &to_one, addresses[1])]
            {
                set(&["-n", namespace, "address", "add", &format!("{address}/30"), "dev", port]);
                set(&["-n", namespace, "link", "set", port, "up"]);
            }
        }
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.name())
    }

    /// A program on this host.
    pub(crate) fn command(&self, host: Host, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(host))).args(["--", program]);
        command
    }

    /// Sends what leads to no neighbour over a host at the other end of a cable.
    pub(crate) fn route(&self, ([one, _], [_, over]): Cable) {
        ip(&["-n", &self.namespace(one), "route", "add", "default", "via", over]).unwrap();
    }

    /// Cuts a cable.
    pub(crate) fn cut(&self, cable: Cable) {
        self.set(cable, "down");
    }

    /// Plugs it in again.
    pub(crate) fn heal(&self, cable: Cable) {
        self.set(cable, "up");
    }

    fn set(&self, ([one, other], _): Cable, state: &str) {
        ip(&["-n", &self.namespace(one), "link", "set", &port(other), state]).unwrap();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in Host::ALL {
            let namespace = self.namespace(host);
            // Programs of programs that were killed.
            let left = ip(&["netns", "pids", &namespace]).unwrap_or_default();
            for process in left.split_whitespace().filter_map(|id| id.parse().ok()) {
                if let Some(process) = rustix::process::Pid::from_raw(process) {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
                }
            }
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}

/// Where everything has to be tested, what is missing fails the test; elsewhere it is said what is
/// not tested.
pub(crate) fn all_or_skip(tested: &str, why: &str) {
    let all = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!all, "{why}; not tested: {tested}");
    println!("skipped: {tested}: {why}");
}

/// The port by which a host is reached from another one.
fn port(host: Host) -> String {
    format!("to-{}", host.name())
}

/// Runs `ip`: what it printed, or why it did not do it.
fn ip(arguments: &[&str]) -> Result<String, String> {
    let run = |program: &str| Command::new(program).args(arguments).output();
    let output = run("ip").or_else(|_| run("/usr/sbin/ip")).map_err(|error| format!("ip: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("ip {}: {}", arguments.join(" "), text(&output.stderr).trim()))
}

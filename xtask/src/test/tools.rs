//! Programs of others that tests and benchmarks talk to: found, or installed by name.

use crate::command;
use anyhow::{Result, bail};
use std::process::Command;

/// A program, a shared library by its name with `.so.` or a module by its folder and name,
/// and the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// What the tests talk to.
pub(crate) const FOR_TESTS: &[Tool] = &[
    Tool { program: "curl", package: "curl" },
    Tool { program: "openssl", package: "openssl" },
    Tool { program: "nginx", package: "nginx" },
    Tool { program: "haproxy", package: "haproxy" },
    Tool { program: "dnsmasq", package: "dnsmasq-base" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "faketime", package: "faketime" },
    Tool { program: "pebble", package: "pebble" },
    Tool { program: "nghttp", package: "nghttp2-client" },
    Tool { program: "promtool", package: "prometheus" },
    Tool { program: "rsyslogd", package: "rsyslog" },
    Tool { program: "rsyslog/lmnsd_ossl.so", package: "rsyslog-openssl" },
    Tool { program: "pg_createcluster", package: "postgresql" },
    Tool { program: "nats-server", package: "nats-server" },
    Tool { program: "python3", package: "python3-yaml" },
    Tool { program: "libmodsecurity.so.3", package: "libmodsecurity3" },
    Tool { program: "libpcre2-8.so.0", package: "libpcre2-8-0" },
    Tool { program: "python3", package: "python3-venv" },
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "mandoc", package: "mandoc" },
    Tool { program: "zsh", package: "zsh" },
    Tool { program: "fish", package: "fish" },
];

/// The peers beside which the product reads the same bytes; varnish compiles its
/// configuration.
pub(crate) const FOR_DIFFERENTIAL: &[Tool] = &[
    Tool { program: "nginx", package: "nginx" },
    Tool { program: "haproxy", package: "haproxy" },
    Tool { program: "varnishd", package: "varnish" },
    Tool { program: "cc", package: "gcc" },
];

/// What attacks, beside PyPI's h2 in an environment of its own.
pub(crate) const FOR_FLOODS: &[Tool] = &[
    Tool { program: "slowhttptest", package: "slowhttptest" },
    Tool { program: "h2load", package: "nghttp2-client" },
    Tool { program: "python3", package: "python3-venv" },
];

/// What looks for injections.
pub(crate) const FOR_SQLMAP: &[Tool] =
    &[Tool { program: "sqlmap", package: "sqlmap" }, Tool { program: "python3", package: "python3" }];

/// Installs what is missing, as root on Debian; else an error that names it all.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let root = command::read(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0");
    if root && command::find("apt-get").is_some() {
        println!("installing {}", packages.join(" "));
        // RUNLEVEL=1: the packages' servers are not started.
        let apt = |arguments: &[&str]| {
            command::run(
                Command::new("apt-get")
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .env("RUNLEVEL", "1")
                    .args(arguments),
            )
        };
        // Old package lists may name files that are gone; new ones may be out of reach.
        if let Err(error) = apt(&["update", "-qq"]) {
            println!("package lists stay as they are: {error:#}");
        }
        let install = ["install", "-y", "-qq", "--no-install-recommends"];
        if let Err(error) = apt(&[&install[..], &packages[..]].concat()) {
            println!("{error:#}");
        }
    }
    let still: Vec<_> = self::missing(tools)
        .iter()
        .map(|tool| format!("{} (package {})", tool.program, tool.package))
        .collect();
    if !still.is_empty() {
        bail!("missing: {}; install with `apt-get install {}`", still.join(", "), packages.join(" "));
    }
    Ok(())
}

fn missing(tools: &[Tool]) -> Vec<&Tool> {
    tools.iter().filter(|tool| !is_there(tool.program)).collect()
}

fn is_there(name: &str) -> bool {
    if name.ends_with(".so") {
        // Below the folder of this machine's architecture.
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        return folders.into_iter().any(|folder| folder.path().join(name).is_file());
    }
    if !name.contains(".so.") {
        return command::find(name).is_some();
    }
    // `ldconfig` stands where only root's path leads.
    ["ldconfig", "/sbin/ldconfig"].iter().any(|program| {
        command::read(Command::new(program).arg("-p")).is_ok_and(|libraries| libraries.contains(name))
    })
}

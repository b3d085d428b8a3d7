//! `bastide run`: one service in the mesh. A gateway of its own on both sides of the program:
//! mutual TLS in front of it, judged by the policies of the mesh, and an outbound proxy on loopback to
//! the other services, by name.
//!
//! The configuration is the one that the mesh's services share, with what this one service needs written around it: so
//! everything that holds at the gateway holds here.
//!
//! What it must never do: start the program before there is an identity, or let a caller from
//! the mesh through the outbound proxy.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use model::suggestion::{nearest, suggestion};

use super::become_program::SoftLimits;
use super::core_dumps;
use super::mesh::Role;
use super::open_files;
use super::program::{Advertise, Program};
use super::program_port::ProgramPort;
use super::serve::{Loader, run_as};
use crate::cli::ServeArguments;
use crate::cli::check::environment;
use crate::cli::run::{Reach, RunArguments};
use crate::config::{self, Declared, Disk, Fault, Files, Mode, Refused, Severity, Spoken};

/// Where the outbound proxy stands among the listeners, as [`Around::listeners`] writes them: behind the service's
/// own, before what is shared.
const OUTBOUND: usize = 1;

/// Runs the program until it ends; its exit code is ours.
///
/// # Errors
/// It cannot be started, or the gateway around it.
pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let limits = SoftLimits {
        core: core_dumps::forbid_by_limit(arguments.danger_core_dumps)?,
        open_files: open_files::allow_all(),
    };
    let (service, named) = (&arguments.service, &arguments.listener_uid);
    let program_port = match arguments.to {
        Some(port) => ProgramPort::new(service, port, named),
        None => ProgramPort::reserve(service, named).context("no port is free for the program")?,
    };
    let around = Around::new(arguments, program_port.address().port())?;
    // Before there is a listener for callers: none of them comes to somebody else.
    program_port.is_free().map_err(anyhow::Error::msg)?;
    let (main, advertise) = (around.main(), around.advertise());
    let load: Loader = Box::new(move || around.load());
    let serve = ServeArguments {
        config: main,
        take_over: false,
        log_format: arguments.log_format,
        danger_core_dumps: arguments.danger_core_dumps,
        leash: arguments.leash,
    };
    let program = Program {
        service: arguments.service.clone(),
        command: arguments.command.clone(),
        port: Arc::new(program_port),
        limits,
        proxy_environment: !arguments.no_proxy_environment,
        advertise,
    };
    run_as(&serve, load, Role::Workload(arguments.service.clone()), Some(program))
}

/// The configuration that [`run`] makes for a service, for those who look at its state folder and
/// policies: where it listens is left open.
///
/// # Errors
/// There is no such file; and, inside, its faults.
pub fn configuration(
    service: &str,
    shared: &Path,
) -> anyhow::Result<Result<config::Configuration, Vec<Fault>>> {
    let arguments = RunArguments {
        service: service.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        to: None,
        listener_uid: Vec::new(),
        outbound_port: 0,
        reach: Vec::new(),
        config: Some(shared.to_owned()),
        state: None,
        advertise: None,
        admin: 0,
        workers: 1,
        no_proxy_environment: false,
        log_format: crate::cli::Output::Text,
        danger_core_dumps: false,
        leash: false,
        command: Vec::new(),
    };
    // Nothing is sent to this port.
    let loaded = Around::new(&arguments, 1)?.load();
    Ok(loaded.map(|(configuration, _)| configuration).map_err(|refused| refused.faults))
}

/// What is written around the shared configuration.
struct Around {
    shared: PathBuf,
    state: PathBuf,
    port: u16,
    arguments: RunArguments,
}

impl Around {
    fn new(arguments: &RunArguments, port: u16) -> anyhow::Result<Self> {
        let shared = std::path::absolute(arguments.shared()).context("the configuration's path")?;
        anyhow::ensure!(shared.is_file(), "{}: there is no such configuration", shared.display());
        let state = match &arguments.state {
            Some(state) => std::path::absolute(state)?,
            None => shared.with_file_name(format!("bastide-{}", arguments.service)),
        };
        Ok(Self { shared, state, port, arguments: arguments.clone() })
    }

    fn main(&self) -> PathBuf {
        self.shared.with_file_name(format!("(bastide run {})", self.arguments.service))
    }

    fn load(&self) -> Result<(config::Configuration, config::Written), Refused> {
        let declared = config::mesh_services(&self.shared, &environment, &Disk)?;
        self.reaches(&declared).map_err(|faults| Refused {
            faults,
            files: vec![self.shared.clone()],
            globs: Vec::new(),
        })?;
        let files = Overlay { texts: vec![(self.main(), self.text(&declared))] };
        let loaded = config::load_written(&self.main(), &environment, &files);
        let (mut configuration, written) = loaded?;
        configuration.warnings.extend(self.misspelt(&declared));
        if let Some(outbound) = configuration.listeners.get_mut(OUTBOUND) {
            outbound.is_outbound = true;
        }
        // `mode: permissive`, by which the listener takes plain text, is warned of where it is written.
        configuration
            .warnings
            .retain(|warning| warning.file != self.main() || !warning.message.starts_with("plain_text:"));
        // The authorities are somebody else's; nothing here is kept.
        configuration.storage.is_set = !configuration.realms.is_empty();
        Ok((configuration, written))
    }

    /// What the registry is told: where the service is looked up there, and where it is said.
    fn advertise(&self) -> Advertise {
        // Faults are said when the whole is loaded.
        let declared = config::mesh_services(&self.shared, &environment, &Disk).unwrap_or_default();
        let own = declared.iter().find(|one| one.name == self.arguments.service);
        match self.arguments.advertise {
            Some(address) => Advertise::At(address),
            None if own.is_some_and(|own| own.registry) => Advertise::Listener,
            None => Advertise::Nothing,
        }
    }

    /// A service that the configuration does not have, where it has one that is called much like it. Others
    /// may be registered as workloads only.
    fn misspelt(&self, declared: &[Declared]) -> Option<Fault> {
        let own = &self.arguments.service;
        let names = || declared.iter().map(|one| one.name.as_str());
        if names().any(|name| name == own) {
            return None;
        }
        let near = nearest(own, names())?;
        let message = format!("mesh.services has no service {own:?}");
        Some(Fault {
            severity: Severity::Warning,
            suggestion: Some(format!("did you mean {near:?}?")),
            ..Fault::whole_file(&self.shared, message)
        })
    }

    /// What is to be reached has to be there.
    fn reaches(&self, declared: &[Declared]) -> Result<(), Vec<Fault>> {
        let is = |name: &str| declared.iter().any(|other| other.name == name);
        let other = |reach: &&Reach| reach.service == self.arguments.service || !is(&reach.service);
        let Some(unknown) = self.arguments.reach.iter().find(other) else { return Ok(()) };
        let others = declared.iter().map(|other| other.name.as_str());
        let others = others.filter(|name| *name != self.arguments.service);
        let hint = suggestion(&unknown.service, others);
        let message =
            format!("--reach {:?}: mesh.services has no other service of this name{hint}", unknown.service);
        Err(vec![Fault::whole_file(&self.shared, message)])
    }

    /// The main file. Names and paths are quoted as JSON, which is YAML.
    fn text(&self, declared: &[Declared]) -> String {
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let own = declared.iter().find(|one| one.name == self.arguments.service);
        let own = own.cloned().unwrap_or_else(|| Declared::new(&self.arguments.service));
        let mut text = format!(
            "include: {}\nstate: {}\nworkers: {}\nadmin: \"127.0.0.1:{}\"\nlisten:\n",
            path(&self.shared),
            path(&self.state),
            self.arguments.workers,
            self.arguments.admin,
        );
        self.listeners(&own, &mut text);
        let service = quoted(&own.name);
        let timeouts: Vec<String> =
            own.timeouts.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
        let _ = writeln!(
            text,
            "services:\n  {service}: {{ endpoints: [ \"http://127.0.0.1:{}\" ], protocol: {}, timeouts: {{ {} }} }}",
            self.port,
            if own.spoken == Spoken::Http2 { "http2" } else { "http1" },
            timeouts.join(", "),
        );
        let tried = if own.dry_run { ", danger_dry_run: true" } else { "" };
        let proof = if own.plain_text { "none" } else { "mtls" };
        let _ = writeln!(
            text,
            "routes:\n- {{ name: {service}, match: \"/**\", to: {service}, authenticate: {proof}, upgrades: [ {} ]{tried} }}",
            upgrades(own.spoken)
        );
        for other in declared.iter().filter(|other| other.name != own.name) {
            let only = if other.spoken == Spoken::Tcp { "CONNECT " } else { "" };
            let _ = writeln!(
                text,
                "- {{ name: {}, match: {}, to: {}, authenticate: none, allow: anyone, upgrades: [ {} ] }}",
                quoted(&format!("outbound to {}", other.name)),
                quoted(&format!("{only}{}/**", other.name)),
                quoted(&other.name),
                upgrades(other.spoken)
            );
        }
        text
    }

    /// The listener of the service, which is for it alone: who comes from the mesh goes nowhere
    /// else. The outbound proxy, for the program. What leads straight to other services.
    fn listeners(&self, own: &Declared, text: &mut String) {
        let tls = match (own.plain_text, own.mode) {
            (true, _) => "",
            (false, Mode::Strict) => ", tls: { mesh: true, min_version: \"1.3\" }",
            (false, Mode::Permissive) => ", tls: { mesh: true, min_version: \"1.3\", plain_text: true }",
        };
        let protocol = match own.spoken {
            Spoken::Detect => "detect",
            Spoken::Http | Spoken::Http2 => "http",
            Spoken::Tcp => "tcp",
        };
        let _ = writeln!(
            text,
            "- {{ address: {}, to: {}, protocol: {protocol}{tls} }}\n- {{ address: \"127.0.0.1:{}\" }}",
            quoted(&self.arguments.listen.to_string()),
            quoted(&own.name),
            self.arguments.outbound_port,
        );
        for reach in &self.arguments.reach {
            let (port, name) = (reach.port, quoted(&reach.service));
            let _ = writeln!(text, "- {{ address: \"127.0.0.1:{port}\", to: {name}, protocol: tcp }}");
        }
    }
}

/// What is switched to with a service: HTTP/2 has no upgrade.
fn upgrades(spoken: Spoken) -> &'static str {
    if spoken == Spoken::Http2 { "" } else { "websocket" }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The disk, with texts that lie over it.
struct Overlay {
    texts: Vec<(PathBuf, String)>,
}

impl Files for Overlay {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        match self.texts.iter().find(|(over, _)| over == path) {
            Some((_, text)) => Ok(text.clone().into_bytes()),
            None => Disk.read(path, bytes_max),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }

    fn world_readable(&self, path: &Path) -> bool {
        Disk.world_readable(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_called_nearly_like_one_of_the_file_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.yaml");
        let text = "mesh: { trust_domain: shop.example, socket: s, services: { payments: \"127.0.0.1:1\" } }\n\
                    policies: { inline: \"permit (principal, action, resource);\" }\n";
        std::fs::write(&file, text).unwrap();
        for (service, warned) in [("paymnts", true), ("payments", false), ("catalogue", false)] {
            let loaded = configuration(service, &file).unwrap();
            let warnings = loaded.unwrap_or_else(|faults| panic!("{service}: {faults:?}")).warnings;
            let expected = "no service \"paymnts\" (did you mean \"payments\"?)";
            let said = warnings.iter().any(|warning| warning.to_string().contains(expected));
            assert_eq!(said, warned, "{service}: {warnings:?}");
        }
    }
}

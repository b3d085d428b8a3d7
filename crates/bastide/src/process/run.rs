//! `bastide run`: one service in the mesh. A gateway of its own on both sides of the program:
//! mutual TLS in front of it, judged by the policies of the town, and a way out on loopback to
//! the other services, by name.
//!
//! The configuration is the town's, with what this one service needs written around it: so
//! everything that holds at the gateway holds here.
//!
//! What it must never do: start the program before there is an identity, or let a caller from
//! the mesh through the way out.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::guest::Guest;
use super::mesh::Role;
use super::serve::{Loader, run_as};
use crate::cli::ServeArguments;
use crate::cli::check::environment;
use crate::cli::run::RunArguments;
use crate::config::{self, Disk, Fault, Files};

/// Runs the program until it ends; its exit code is ours.
///
/// # Errors
/// It cannot be started, or the gateway around it.
pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let shared = std::path::absolute(&arguments.config).context("the configuration's path")?;
    anyhow::ensure!(shared.is_file(), "{}: there is no such configuration", shared.display());
    let state = match &arguments.state {
        Some(state) => std::path::absolute(state)?,
        None => shared.with_file_name(format!("bastide-{}", arguments.service)),
    };
    let port = match arguments.to {
        Some(port) => port,
        None => free_port().context("no port is free for the program")?,
    };
    let around = Around { shared, state, port, arguments: arguments.clone() };
    let main = around.main();
    let load: Loader = Box::new(move || around.load());
    let serve =
        ServeArguments { config: main, take_over: false, log_format: arguments.log_format, leash: false };
    let guest = Guest {
        service: arguments.service.clone(),
        command: arguments.command.clone(),
        port,
        proxy_environment: !arguments.no_proxy_environment,
    };
    run_as(&serve, load, Role::Workload(arguments.service.clone()), Some(guest))
}

/// A port that nobody listens on now.
fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What is written around the town's configuration.
struct Around {
    shared: PathBuf,
    state: PathBuf,
    port: u16,
    arguments: RunArguments,
}

impl Around {
    fn main(&self) -> PathBuf {
        self.shared.with_file_name(format!("(bastide run {})", self.arguments.service))
    }

    fn policies(&self) -> PathBuf {
        self.shared.with_file_name("(bastide run).cedar")
    }

    fn load(&self) -> Result<(config::Configuration, config::Written), Vec<Fault>> {
        let others = config::mesh_service_names(&self.shared, &environment, &Disk)?;
        let files =
            Overlay { texts: vec![(self.main(), self.text(&others)), (self.policies(), self.guard())] };
        let loaded = config::load_written(&self.main(), &environment, &files);
        let (mut configuration, written) = loaded?;
        // The authorities are somebody else's; nothing here is kept.
        configuration.storage.is_set = !configuration.realms.is_empty();
        Ok((configuration, written))
    }

    /// The main file. Names and paths are quoted as JSON, which is YAML.
    fn text(&self, others: &[String]) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let service = quoted(&self.arguments.service);
        let mut text = format!(
            "include: {}\nstate: {}\nworkers: {}\nadmin: \"127.0.0.1:{}\"\npolicies: [ {} ]\nlisten:\n\
             - {{ address: {}, tls: {{ mesh: true, min_version: \"1.3\" }} }}\n- {{ address: \"127.0.0.1:{}\" }}\n",
            path(&self.shared),
            path(&self.state),
            self.arguments.workers,
            self.arguments.admin,
            path(&self.policies()),
            quoted(&self.arguments.listen.to_string()),
            self.arguments.way_out,
        );
        let _ = write!(
            text,
            "services:\n  {service}: [ \"http://127.0.0.1:{}\" ]\nroutes:\n\
             - {{ name: {service}, match: \"/**\", to: {service}, authenticate: mtls }}\n",
            self.port
        );
        for name in others.iter().filter(|name| **name != self.arguments.service) {
            let _ = writeln!(
                text,
                "- {{ name: {}, match: {}, to: {}, authenticate: none, allow: anyone }}",
                quoted(&format!("way out to {name}")),
                quoted(&format!("{name}/**")),
                quoted(name)
            );
        }
        text
    }

    /// Who comes from the mesh comes to this service: the way out is for its program.
    fn guard(&self) -> String {
        format!(
            "@id(\"the way out is for the program\")\nforbid (principal, action, resource)\n\
             when {{ context.tls && resource.service != {} }};\n",
            serde_json::Value::from(self.arguments.service.as_str())
        )
    }
}

/// The disk, with texts that lie over it.
struct Overlay {
    texts: Vec<(PathBuf, String)>,
}

impl Files for Overlay {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.texts.iter().find(|(over, _)| over == path) {
            Some((_, text)) => Ok(text.clone().into_bytes()),
            None => Disk.read(path),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }

    fn world_readable(&self, path: &Path) -> bool {
        Disk.world_readable(path)
    }
}

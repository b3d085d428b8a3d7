//! Measurements beside peers, written to `docs/benchmarks.md` with command, date and
//! machine. A row past its bound is named and makes the exit code 1.

mod footprint;
mod gateway;
mod identity;
mod load;
mod mesh;
mod page;
mod peer;
mod pki;
mod server;
pub(crate) mod usage;
mod verdict;
mod waf;
mod whole_way;

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// CPU per request beside nginx: TLS, HTTP/2, the whole way
    #[command(
        after_help = "Examples:\n  cargo xtask bench gateway\n  cargo xtask bench gateway --only whole,tls-http1 --rounds 3 --profile"
    )]
    Gateway(gateway::Options),
    /// What the firewall adds to a request, beside nginx with ModSecurity and the same rules
    #[command(
        after_help = "Examples:\n  cargo xtask bench waf\n  cargo xtask bench waf --rounds 2 --seconds 3"
    )]
    Waf(waf::Options),
    /// A call between two services of the mesh, beside Envoy to Envoy and nginx to nginx
    #[command(
        after_help = "Examples:\n  cargo xtask bench mesh\n  cargo xtask bench mesh --rounds 3 --no-identities"
    )]
    Mesh(mesh::Options),
    /// Tokens, introspection and refresh beside npm's oidc-provider; start and memory
    #[command(
        after_help = "Examples:\n  cargo xtask bench identity\n  cargo xtask bench identity --rounds 3 --people 10000"
    )]
    Identity(identity::Options),
    /// Time of a clean release build, size of the binary, memory at rest
    #[command(
        after_help = "Examples:\n  cargo xtask bench footprint\n  cargo xtask bench footprint --skip-build"
    )]
    Footprint(footprint::Options),
    /// Figures that a crate's own example prints: policy, audit, store, revocation, mesh-revocation
    #[command(flatten)]
    Example(Example),
}

/// Benchmarks that are examples of the crate that they measure.
#[derive(clap::Subcommand)]
pub(crate) enum Example {
    /// One decision with 100 roles, 500 users, 1,000 bindings
    #[command(after_help = "Examples:\n  cargo xtask bench policy")]
    Policy,
    /// One audit event, from the way's end to the file
    #[command(after_help = "Examples:\n  cargo xtask bench audit")]
    Audit,
    /// Durable puts, single and grouped, and gets, beside plain SQLite
    #[command(after_help = "Examples:\n  cargo xtask bench store")]
    Store,
    /// From a revocation on disk to the end of 5,000 open connections
    #[command(after_help = "Examples:\n  cargo xtask bench revocation")]
    Revocation,
    /// From a revocation in the mesh to the end of 5,000 open connections to eight services
    #[command(after_help = "Examples:\n  cargo xtask bench mesh-revocation")]
    MeshRevocation,
}

/// Runs it, writes its section of the page.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Gateway(options) => gateway::run(options),
        Bench::Waf(options) => waf::run(options),
        Bench::Mesh(options) => mesh::run(options),
        Bench::Identity(options) => identity::run(options),
        Bench::Footprint(options) => footprint::run(options),
        Bench::Example(Example::Policy) => example("policy", "policy", "decide_bench", &[]),
        Bench::Example(Example::Audit) => example("audit", "audit", "event_cost", &[]),
        Bench::Example(Example::Store) => example("store", "store", "record_cost", &[]),
        Bench::Example(Example::Revocation) => of_binary("revocation", "revocation"),
        Bench::Example(Example::MeshRevocation) => of_binary("mesh-revocation", "mesh_revocation"),
    }
}

/// The same of an example that runs the binary that ships.
fn of_binary(section: &str, name: &str) -> Result<()> {
    let binary = shipped_binary(&workspace::root()?)?;
    example(section, "bastide", name, &[binary.as_os_str()])
}

/// Runs the example and keeps what it prints; it exits 1 when it is past its own bound.
fn example(section: &str, package: &str, name: &str, arguments: &[&OsStr]) -> Result<()> {
    let root = workspace::root()?;
    if !root.join(format!("crates/{package}/examples/{name}.rs")).is_file() {
        bail!("crates/{package} has no example `{name}`: expected one that prints its figures");
    }
    let mut printed = String::new();
    let mut command = crate::command::cargo(&root);
    command.args(["run", "--quiet", "--locked", "--profile", "dist", "-p", package, "--example", name, "--"]);
    command.args(arguments);
    let well = crate::command::run_seeing(&mut command, |line| {
        printed.push_str(line);
        printed.push('\n');
    })?;
    let text = format!("{}\n```\n{}```\n", page::stamp(&format!("cargo xtask bench {section}"))?, printed);
    page::write(&root, section, &format!("{section}: what its own example prints"), &text)?;
    if !well {
        bail!("{section}: past its bound, see above");
    }
    Ok(())
}

/// A proxy has a core for itself.
fn needs_two_cores() -> Result<()> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("needs two cores: one for what is measured, one for load and upstream");
    }
    Ok(())
}

/// An empty folder of this name under the target folder.
fn fresh_folder(name: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The binary that was given, or the one that ships.
fn measured_binary(given: Option<&Path>, root: &Path) -> Result<PathBuf> {
    match given {
        Some(binary) => {
            std::fs::canonicalize(binary).with_context(|| format!("--binary {}", binary.display()))
        }
        None => shipped_binary(root),
    }
}

/// The binary that ships, built now.
fn shipped_binary(root: &Path) -> Result<PathBuf> {
    println!("building the dist profile (link-time optimisation: takes minutes the first time)");
    crate::command::run(crate::command::cargo(root).args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "-p",
        "bastide",
        "--bin",
        "bastide",
    ]))?;
    Ok(workspace::target()?.join("dist/bastide"))
}

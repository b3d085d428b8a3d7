//! `bastide demo`: the sample shop, thrown away at the end, on loopback. Real services run
//! behind a real gateway, which is their identity provider too, each a process of its own.
//!
//! The way through it: [`environment`] builds it, [`service`] is what its processes run,
//! [`welcome`] says what to try, [`tour`] tries to break in and reports what refused
//! it. [`client`] is the tour's own client, which can lie about anything.
//!
//! What it must never do: leave a process or a file behind, listen anywhere but on
//! loopback, or judge a trial by anything but what came back and what the audit log
//! says.

mod browser;
pub mod client;
pub mod environment;
mod jose;
mod login;
mod partners;
pub mod port;
mod process;
pub mod service;
pub mod tour;
mod welcome;

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Output;
use crate::cli::help::help;
use environment::DemoEnvironment;
pub use service::ServiceArguments;

/// Arguments of `bastide demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = help(
    "The sample shop's firewall runs the OWASP Core Rule Set where it is found: in $BASTIDE_CRS, or in\n\
     /usr/share/modsecurity-crs; otherwise a few rules of its own.",
    "0 done, 1 a row of the tour failed, or it was interrupted, 2 wrong usage, 3 could not run",
    "bastide demo                     the sample shop, until Ctrl-C\n\
     bastide demo --tour              every attack of the tour, then the end\n\
     bastide demo --tour --only quota     one row of it"
))]
pub struct DemoArguments {
    /// Try every attack, print what refused it, and end.
    #[arg(long)]
    pub tour: bool,
    /// Only these rows of the tour.
    #[arg(long, value_name = "ROW", requires = "tour")]
    pub only: Vec<String>,
    /// How the tour's result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Keep the sample shop's folder (logs, configuration, audit) when it ends.
    #[arg(long)]
    pub keep: bool,
}

/// Runs `bastide demo`.
///
/// # Errors
/// The demo does not come up.
pub fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    let rows = tour::select(&arguments.only)?;
    let firewall = environment::Rules::find(crate::cli::check::environment("BASTIDE_CRS"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let interrupted = async {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        };
        tokio::pin!(interrupted);
        let executable = std::env::current_exe()?;
        let mut demo = tokio::select! {
            demo = DemoEnvironment::start(&executable, firewall) => demo?,
            () = &mut interrupted => return Ok(ExitCode::FAILURE),
        };
        let code = if arguments.tour {
            tokio::select! {
                report = tour::run(&mut demo, &rows) => report.print(arguments.output),
                () = &mut interrupted => ExitCode::FAILURE,
            }
        } else {
            welcome::print(&demo, arguments.keep)?;
            interrupted.await;
            ExitCode::SUCCESS
        };
        if let Some(folder) = demo.end(arguments.keep).await {
            crate::cli::say(format!("kept: {}", folder.display()));
        }
        Ok(code)
    })
}

/// Runs `bastide demo-service`.
///
/// # Errors
/// See [`service::serve`].
pub fn run_service(arguments: ServiceArguments) -> anyhow::Result<ExitCode> {
    service::serve(arguments)?;
    Ok(ExitCode::SUCCESS)
}

//! `bastide init`: makes the store and its unseal key, or the shares of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueHint};
use serde_json::json;
use store::UnsealKey;

use super::help::help;
use super::{Output, refuse_with, say, say_json};
use crate::config::{Database, Storage, Unseal};
use crate::process::state::make_state_folder;
use crate::process::storage;

/// Arguments of `bastide init`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "`storage.unseal` of the configuration says where the key goes: to a new file of mode 0600, or to\n\
     standard output, once, as a key or as shares.",
    "0 made, 1 there is a store already, 2 wrong usage, 3 could not run (faults of the configuration included)",
    "bastide init                              a store and a key file, as configured\n\
     bastide init --shares 5 --threshold 3     with `unseal: shares`: five shares, any three unseal\n\
     bastide init --output json"
))]
pub struct InitArguments {
    /// The configuration, which says where the store is.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// How many shares are made. Only with `unseal: shares`.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=64))]
    shares: Option<u8>,
    /// How many shares unseal the store. Only with `unseal: shares`.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=64))]
    threshold: Option<u8>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Shares that are made when none are asked for, and how many of them unseal.
const SHARES_DEFAULT: (u8, u8) = (5, 3);

/// Makes a store and its key; the exit code is 1 if there is a store already.
///
/// # Errors
/// The configuration has faults, or the store or the key cannot be made.
pub fn run(arguments: &InitArguments) -> anyhow::Result<ExitCode> {
    let configuration = super::check::load_or_report(&arguments.config, arguments.output)?;
    let settings = &configuration.storage;
    let by_shares = settings.unseal == Unseal::Shares;
    anyhow::ensure!(
        by_shares || (arguments.shares.is_none() && arguments.threshold.is_none()),
        "--shares and --threshold need `unseal: shares`; {} says otherwise",
        arguments.config.display()
    );
    let count = arguments.shares.unwrap_or(SHARES_DEFAULT.0);
    let threshold = arguments.threshold.unwrap_or(SHARES_DEFAULT.1.min(count));
    anyhow::ensure!(threshold <= count, "--threshold {threshold} of only {count} shares would never unseal");
    let state = &configuration.state;
    make_state_folder(state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if runtime.block_on(storage::is_initialised(&settings.database))? {
        let place = storage::place(&settings.database);
        let why = format!("{place}: there is a store already; it is left as it is");
        return Ok(refuse_with(&why, arguments.output, json!({ "made": false, "store": place })));
    }
    let made = Made::prepare(settings, threshold, count)?;
    runtime.block_on(storage::initialise(&settings.database, &made.key))?;
    made.show(&settings.database, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

/// A new key, where it is to be found, and what is shown of it.
struct Made {
    key: UnsealKey,
    file: Option<PathBuf>,
    /// A text with its name, each shown once.
    shown: Vec<(String, zeroize::Zeroizing<String>)>,
    threshold: Option<u8>,
}

impl Made {
    /// Makes the key, and its file before the store: a store whose key is lost is of no
    /// use, a key without a store does no harm.
    fn prepare(settings: &Storage, threshold: u8, count: u8) -> anyhow::Result<Self> {
        let new = || UnsealKey::generate().map_err(anyhow::Error::from);
        match &settings.unseal {
            // A key that an operator or an earlier, interrupted run left is taken.
            Unseal::KeyFile(path) if path.exists() => {
                let key = storage::local_key(&settings.unseal)?.context("the key file has gone")?;
                Ok(Self { key, file: Some(path.clone()), shown: Vec::new(), threshold: None })
            }
            Unseal::KeyFile(path) => {
                let key = new()?;
                key.write_new_file(path)?;
                Ok(Self { key, file: Some(path.clone()), shown: Vec::new(), threshold: None })
            }
            // Set already, by whoever prepared the machine: that one is taken.
            Unseal::Environment(name) if crate::cli::check::environment(name).is_some() => {
                let key = storage::local_key(&settings.unseal)?.context("the variable has gone")?;
                Ok(Self { key, file: None, shown: Vec::new(), threshold: None })
            }
            Unseal::Environment(name) => {
                let key = new()?;
                let shown = vec![(name.clone(), key.to_text())];
                Ok(Self { key, file: None, shown, threshold: None })
            }
            Unseal::Shares => {
                let key = new()?;
                let shares = store::split(&key, threshold, count)?;
                let shown = shares.iter().map(|share| (format!("share {}", share.number()), share.to_text()));
                let shown = shown.collect();
                Ok(Self { key, file: None, shown, threshold: Some(threshold) })
            }
        }
    }

    fn show(&self, database: &Database, output: Output) -> anyhow::Result<()> {
        let place = storage::place(database);
        if output == Output::Json {
            let texts: Vec<&str> = self.shown.iter().map(|(_, text)| text.as_str()).collect();
            let (key, shares) = match self.threshold {
                Some(_) => (None, Some(texts)),
                None => (texts.first().copied(), None),
            };
            let whole = json!({
                "made": true, "store": place, "key_file": self.file, "key": key,
                "shares": shares, "threshold": self.threshold,
            });
            let whole = whole.as_object().context("an object")?.iter().filter(|(_, value)| !value.is_null());
            say_json(&whole.collect::<BTreeMap<_, _>>());
            return Ok(());
        }
        say(format_args!("made the store: {place}"));
        if let Some(path) = &self.file {
            say(format_args!("its unseal key: {}", path.display()));
            say("Keep a copy of the key elsewhere, never next to backups: without it, nothing can be read.");
        }
        if !self.shown.is_empty() {
            say("This is the only time that they are shown:\n");
        }
        for (name, text) in &self.shown {
            match self.threshold {
                Some(_) => say(format_args!("{name}: {}", text.as_str())),
                None => say(format_args!("{name}={}", text.as_str())),
            }
        }
        if let Some(threshold) = self.threshold {
            let count = self.shown.len();
            say(format_args!(
                "\nAny {threshold} of the {count} unseal the store: `bastide unseal`. Give them to {count} people."
            ));
        }
        Ok(())
    }
}

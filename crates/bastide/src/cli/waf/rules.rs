//! From options, or a configuration, to a loaded rule set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use model::suggestion::suggestion;
use waf::RuleSet;

use crate::cli::check::environment;
use crate::config::{
    CRS_MARK, Configuration, Disk, Exclusion, Fault, Route, Severity, WafChoice, WafMode, WafSettings, load,
    load_rules,
};

/// What an option says over what rule files or a configuration say.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Overrides {
    /// Core Rule Set: the paranoia level that blocks.
    #[arg(long, value_name = "1-4", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(super) paranoia: Option<u8>,
    /// Core Rule Set: the anomaly score at which a request is refused.
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) inbound_threshold: Option<u32>,
    /// Core Rule Set: the anomaly score at which an answer is refused.
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) outbound_threshold: Option<u32>,
    /// Rules to exclude, or targets that they do not inspect: `942100`, `942100:ARGS:comment`,
    /// `920000-920999`, `tag=attack-sqli:ARGS:comment`. May be given several times.
    #[arg(long = "exclude", value_name = "RULE[:TARGET]", value_parser = Exclusion::parse)]
    pub(super) exclusions: Vec<Exclusion>,
}

impl Overrides {
    /// Whether anything is said.
    pub(super) fn are_given(&self) -> bool {
        self.paranoia.is_some()
            || self.inbound_threshold.is_some()
            || self.outbound_threshold.is_some()
            || !self.exclusions.is_empty()
    }

    /// Puts them over settings.
    pub(super) fn put_over(&self, settings: &mut WafSettings) {
        if let Some(level) = self.paranoia {
            settings.paranoia = Some(level);
            settings.paranoia_detection = settings.paranoia_detection.map(|detects| detects.max(level));
        }
        settings.threshold_inbound = self.inbound_threshold.or(settings.threshold_inbound);
        settings.threshold_outbound = self.outbound_threshold.or(settings.threshold_outbound);
        settings.exclusions.extend(self.exclusions.iter().cloned());
    }
}

/// What the firewall does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeOption {
    /// Refuse: rules after the one that decides do not run.
    Block,
    /// Only log: every rule runs.
    Detect,
}

impl From<ModeOption> for WafMode {
    fn from(mode: ModeOption) -> Self {
        match mode {
            ModeOption::Block => Self::Block,
            ModeOption::Detect => Self::Detect,
        }
    }
}

/// Paths as somebody types them: a folder that is no release of the Core Rule Set means its
/// `.conf` files, and the `rules` folder of a release means the release.
pub(super) fn typed(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mark = CRS_MARK.rsplit('/').next().unwrap_or(CRS_MARK);
    let one = |path: &PathBuf| {
        if !path.is_dir() || path.join(CRS_MARK).is_file() {
            return path.clone();
        }
        let above = path.parent().filter(|above| path.join(mark).is_file() && above.join(CRS_MARK).is_file());
        above.map_or_else(|| path.join("*.conf"), Path::to_path_buf)
    };
    paths.iter().map(one).collect()
}

/// Loads by settings from the disk.
///
/// # Errors
/// Everything that is wrong with the rules.
pub(super) fn load_by(settings: &WafSettings) -> Result<Arc<RuleSet>, Vec<Fault>> {
    load_rules(settings, &Disk).map(Arc::new)
}

/// The configuration at this path.
///
/// # Errors
/// All of its faults, in one.
pub(super) fn configuration(path: &Path) -> anyhow::Result<Configuration> {
    load(path, &environment, &Disk).map_err(|faults| {
        let faults = faults.iter().filter(|fault| fault.severity == Severity::Fault);
        let all: Vec<String> = faults.map(ToString::to_string).collect();
        anyhow::anyhow!("the configuration has faults:\n{}", all.join("\n"))
    })
}

/// The settings of the firewall of a route; without a name, of whoever says nothing.
///
/// # Errors
/// There is no such route, or it has no firewall, or its listeners' firewalls differ.
pub(super) fn settings_of(configuration: &Configuration, route: Option<&str>) -> anyhow::Result<WafSettings> {
    let choice = match route {
        None => configuration.waf,
        Some(name) => {
            let known = configuration.routes.iter().find(|route| route.name == name);
            let route = known.with_context(|| unknown_route(configuration, name))?;
            match of_route(configuration, route) {
                Some(choice) => choice,
                None => {
                    bail!("route {name:?} uses the firewall of its listener, and these differ: give --rules")
                }
            }
        }
    };
    let about = route.map_or_else(|| "the configuration".to_owned(), |name| format!("route {name:?}"));
    match choice {
        WafChoice::Firewall(number) => {
            let firewall = configuration
                .firewalls
                .get(number)
                .with_context(|| format!("internal error: firewall {number} is missing"))?;
            Ok(firewall.settings.clone())
        }
        WafChoice::Inherit | WafChoice::Off => bail!("{about} has no firewall (waf: is off)"),
    }
}

/// What a route's choice comes to; None where that depends on the listener.
pub(super) fn of_route(configuration: &Configuration, route: &Route) -> Option<WafChoice> {
    if route.waf != WafChoice::Inherit {
        return Some(configuration.waf_on(route, route.waf));
    }
    let mut all = configuration.listeners.iter().map(|listener| match listener.waf {
        WafChoice::Inherit => configuration.waf,
        own => own,
    });
    let first = all.next().unwrap_or(configuration.waf);
    all.all(|other| other == first).then(|| configuration.waf_on(route, first))
}

fn unknown_route(configuration: &Configuration, name: &str) -> String {
    let hint = suggestion(name, configuration.routes.iter().map(|route| route.name.as_str()));
    format!("the configuration has no route {name:?}{hint}")
}

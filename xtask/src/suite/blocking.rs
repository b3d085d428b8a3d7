//! The same tests with the firewall blocking: at each paranoia level, the tests of that
//! level's attack rules. A test whose rule matched must have been refused, one whose
//! rule did not must not have been because of it.

use super::crs::{Gateway, How, Places, Results, Setting, Tally};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Rules that only add up what others found.
const SUMS: [u64; 8] = [949_110, 949_111, 949_959, 959_100, 959_101, 980_170, 949_052, 949_053];
/// What the engine itself refuses: a body that cannot be parsed.
const BODIES: std::ops::RangeInclusive<u64> = 200_000..=200_010;

/// An attack rule.
struct Rule {
    level: u8,
    /// Whether one match is enough to refuse.
    critical: bool,
}

/// Runs the tests of each level and judges them by what detection found.
pub(super) fn run(
    binary: &Path,
    places: &Places,
    folder: &Path,
    how: &How,
    detected: &Results,
) -> Result<Tally> {
    let rules = attack_rules(&places.rules)?;
    let mut tally = Tally { passed: 0, failed: 0, skipped: 0 };
    for level in 1..=4 {
        let settings = folder.join(format!("crs-block-{level}.conf"));
        std::fs::write(&settings, settings_of(level))?;
        let engine = places.harness.join("engine.conf");
        let files = vec![engine, places.setup.clone(), settings, places.rules.join("*.conf")];
        let gateway =
            Gateway::start(binary, places, folder, &Setting::blocking(format!("block-{level}"), files))?;
        let ids: Vec<String> =
            rules.iter().filter(|(_, rule)| rule.level == level).map(|(id, _)| id.to_string()).collect();
        let include = format!("^({})-", ids.join("|"));
        let results = gateway.test(places, how, Some(&include), &format!("block-{level}"))?;
        for result in &results.results {
            let Some((rule, _)) = result.id.split_once('-') else { continue };
            let Ok(rule) = rule.parse::<u64>() else { continue };
            let Some(known) = rules.get(&rule) else { continue };
            let wanted = how.include.is_none() || detected.results.iter().any(|one| one.id == result.id);
            let before = detected.results.iter().find(|one| one.id == result.id);
            let Some(before) = before.filter(|before| wanted && before.result == "passed") else {
                tally.skipped += 1;
                continue;
            };
            let positive = before.stages.iter().any(|stage| stage.ids.contains(&rule));
            let refused = |status: Option<u16>| status.is_none_or(|status| status >= 400);
            let well = if positive {
                !known.critical || result.stages.iter().any(|stage| refused(stage.status))
            } else {
                result.stages.iter().all(|stage| {
                    let others =
                        stage.ids.iter().any(|id| *id != rule && (!SUMS.contains(id) || BODIES.contains(id)));
                    !stage.ids.contains(&rule) && (stage.status != Some(403) || others)
                })
            };
            if well {
                tally.passed += 1;
            } else {
                tally.failed += 1;
                let kind = if positive { "was not refused" } else { "was refused" };
                println!("FAIL {} at paranoia level {level}: {kind}", result.id);
            }
        }
    }
    Ok(tally)
}

/// The settings of the tests, with the firewall blocking at one paranoia level.
fn settings_of(level: u8) -> String {
    format!(
        "SecAction \"id:900005,phase:1,nolog,pass,t:none,\\
ctl:ruleRemoveById=910000,\\
setvar:tx.blocking_paranoia_level={level},\\
setvar:tx.detection_paranoia_level={level},\\
setvar:tx.crs_validate_utf8_encoding=1,\\
setvar:tx.arg_name_length=100,\\
setvar:tx.arg_length=400,\\
setvar:tx.total_arg_length=64000,\\
setvar:tx.max_num_args=255,\\
setvar:tx.max_file_size=64100,\\
setvar:tx.combined_file_sizes=65535\"\n"
    )
}

/// The attack rules by id, read from the rule files.
fn attack_rules(folder: &Path) -> Result<BTreeMap<u64, Rule>> {
    let mut rules = BTreeMap::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            read_rules(&std::fs::read_to_string(&path)?, &mut rules);
        }
    }
    Ok(rules)
}

fn read_rules(text: &str, rules: &mut BTreeMap<u64, Rule>) {
    for rule in text.split("\nSecRule ") {
        let between = |before: &str, end: &[char]| {
            let rest = rule.split_once(before)?.1;
            rest.split(end).next()
        };
        let Some(id) = between("\"id:", &[',', '"']).and_then(|id| id.trim().parse().ok()) else { continue };
        let level = between("paranoia-level/", &['\'']).and_then(|level| level.parse().ok());
        if let Some(level) = level
            && rule.contains("tag:'attack-")
        {
            rules.insert(id, Rule { level, critical: rule.contains("severity:'CRITICAL'") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_rules_are_told_by_their_tags() {
        let mut rules = BTreeMap::new();
        read_rules(
            "# x\nSecRule A \"@rx x\" \\\n \"id:1,\\\n tag:'attack-x',\\\n tag:'paranoia-level/2',\\\n severity:'CRITICAL'\"\n\
             \nSecRule B \"@rx y\" \\\n \"id:2,\\\n tag:'paranoia-level/1'\"\n\
             \nSecRule C \"@rx y\" \"id:3,tag:'attack-y',tag:'paranoia-level/1',severity:'NOTICE'\"\n",
            &mut rules,
        );
        let found: Vec<_> = rules.iter().map(|(id, rule)| (*id, rule.level, rule.critical)).collect();
        assert_eq!(found, [(1, 2, true), (3, 1, false)]);
    }
}

//! What the engine costs by itself: its own example measures loading and the tests of the
//! rule set.

use crate::command;
use crate::suite::CrsPlaces as Places;
use anyhow::{Context, Result};
use std::path::Path;

/// What `examples/figures.rs` of the engine says.
#[derive(Debug, PartialEq)]
pub(super) struct Engine {
    pub(super) load_ms: f64,
    pub(super) load_mib: f64,
    pub(super) slowest_ms: f64,
    pub(super) slowest: String,
    pub(super) tests: u32,
}

/// Runs the example, as it is built for release or as it ships.
pub(super) fn measure(root: &Path, places: &Places, ships: bool) -> Result<Engine> {
    let profile = if ships { "dist" } else { "release" };
    let mut command = command::cargo(root);
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--profile",
        profile,
        "-p",
        "waf",
        "--example",
        "figures",
        "--",
    ]);
    command.args([&places.setup, &places.rules, &places.tests, &places.harness]);
    let text = command::read(&mut command).context("the engine's own figures")?;
    parse(&text).with_context(|| format!("the engine's example said {text:?}"))
}

/// Lines of a name, a space and a value; `None` where one is missing or says nothing.
fn parse(text: &str) -> Option<Engine> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim())
    };
    // Nothing of this is free: a figure of nothing was not measured.
    let figure = |name| value(name)?.parse().ok().filter(|figure: &f64| *figure > 0.0);
    Some(Engine {
        load_ms: figure("load_ms")?,
        load_mib: figure("load_mib")?,
        slowest_ms: figure("slowest_ms")?,
        slowest: value("slowest").filter(|name| !name.is_empty())?.to_owned(),
        tests: value("tests")?.parse().ok().filter(|tests| *tests > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_says_is_read_strictly() {
        let said = "load_ms 200.5\nload_mib 31\nslowest_ms 1.5\nslowest 942100-1\ntests 3457\n";
        let engine = parse(said).unwrap();
        assert_eq!((engine.slowest.as_str(), engine.tests), ("942100-1", 3_457));
        assert!((engine.load_ms - 200.5).abs() < 1e-9);
        for (figure, nothing) in
            [("3457", "0"), ("200.5", "0.0"), ("31", "NaN"), ("1.5", "0.000"), ("942100-1", "")]
        {
            assert_eq!(parse(&said.replace(figure, nothing)), None, "{figure} as {nothing:?}");
        }
        assert_eq!(parse("load_ms 1\n"), None);
    }
}

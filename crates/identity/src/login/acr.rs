//! Classes of authentication (`acr`): what the methods that a person showed amount to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A class, and what reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcrLevel {
    /// The `acr` value.
    pub name: String,
    /// Sets of methods (`amr`, RFC 8176), each of which is enough.
    pub any_of: Vec<BTreeSet<String>>,
}

impl AcrLevel {
    /// `1`: one factor. `2`: two, or a passkey that verified its user (`mfa`).
    pub fn defaults() -> Vec<Self> {
        let level = |name: &str, any_of: &[&[&str]]| Self {
            name: name.to_owned(),
            any_of: any_of
                .iter()
                .map(|set| set.iter().map(|method| (*method).to_owned()).collect())
                .collect(),
        };
        vec![
            level("1", &[&["pwd"], &["hwk"], &["swk"]]),
            level(
                "2",
                &[&["pwd", "otp"], &["pwd", "hwk"], &["pwd", "swk"], &["hwk", "mfa"], &["swk", "mfa"]],
            ),
        ]
    }

    pub(crate) fn fault(levels: &[Self]) -> Option<String> {
        let names: BTreeSet<&str> = levels.iter().map(|level| level.name.as_str()).collect();
        if names.len() != levels.len() {
            return Some("acr_levels: two have one name".to_owned());
        }
        let strange =
            levels.iter().find(|level| !crate::scope::is_token(&level.name) || level.any_of.is_empty());
        strange.map(|level| {
            format!("acr_levels: {:?}: expected a name without spaces and what reaches it", level.name)
        })
    }
}

/// The strongest class that these methods reach.
pub(crate) fn reached<'a>(levels: &'a [AcrLevel], methods: &[String]) -> Option<&'a str> {
    let has = |set: &BTreeSet<String>| set.iter().all(|method| methods.contains(method));
    levels.iter().rev().find(|level| level.any_of.iter().any(has)).map(|level| level.name.as_str())
}

/// Whether `have` is one of `wanted`, or stronger than one of them.
pub(crate) fn satisfies(levels: &[AcrLevel], have: Option<&str>, wanted: &[String]) -> bool {
    let place = |name: &str| levels.iter().position(|level| level.name == name);
    let have = have.and_then(place);
    wanted.iter().filter_map(|name| place(name)).any(|wanted| have.is_some_and(|have| have >= wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn methods_amount_to_a_class() {
        let levels = AcrLevel::defaults();
        assert_eq!(AcrLevel::fault(&levels), None);
        for (methods, class) in [
            (&["pwd"][..], Some("1")),
            (&["pwd", "otp"], Some("2")),
            (&["otp"], None),
            (&["hwk"], Some("1")),
            // That somebody was there is not who.
            (&["hwk", "user"], Some("1")),
            (&["hwk", "user", "mfa"], Some("2")),
            (&[], None),
        ] {
            assert_eq!(reached(&levels, &texts(methods)), class, "{methods:?}");
        }
    }

    #[test]
    fn a_stronger_class_satisfies_a_weaker_one_and_not_the_other_way() {
        let levels = AcrLevel::defaults();
        for (have, wanted, good) in [
            (Some("1"), &["1"][..], true),
            (Some("2"), &["1"], true),
            (Some("1"), &["2"], false),
            (Some("1"), &["2", "1"], true),
            (None, &["1"], false),
            (Some("2"), &["gold"], false),
            (Some("gold"), &["1"], false),
        ] {
            assert_eq!(satisfies(&levels, have, &texts(wanted)), good, "{have:?} {wanted:?}");
        }
    }
}

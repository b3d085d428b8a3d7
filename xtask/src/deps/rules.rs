//! `dependencies.toml`: which licences, which crates never, which deviations until when.

use super::{Fault, Findings};
use crate::clock::Date;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

/// The checks that an exception can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Check {
    Advisory,
    Licence,
    Ban,
    Source,
}

impl Check {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::Licence => "licence",
            Self::Ban => "ban",
            Self::Source => "source",
        }
    }
}

/// The parsed file.
pub(crate) struct Rules {
    allow: Vec<Licensee>,
    bans: Vec<Ban>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    licences: Licences,
    #[serde(default)]
    ban: Vec<Ban>,
    #[serde(default)]
    exception: Vec<ExceptionText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionText {
    check: Check,
    subject: String,
    reason: String,
    until: String,
}

struct Exception {
    check: Check,
    subject: String,
    reason: String,
    until: Date,
}

impl Rules {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Unknown keys, a licence that SPDX does not know, an exception without a reason or
    /// with a day that does not exist.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let allow = file.licences.allow.iter().map(|name| {
            Licensee::parse(name)
                .with_context(|| format!("[licences] allow: `{name}` is not an SPDX licence"))
        });
        Ok(Self {
            allow: allow.collect::<Result<_>>()?,
            bans: file.ban,
            exceptions: file.exception.into_iter().map(ExceptionText::checked).collect::<Result<_>>()?,
        })
    }

    /// Why a crate of that name is banned, if it is.
    pub(crate) fn banned(&self, name: &str) -> Option<&str> {
        let matches = |ban: &&Ban| match ban.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => ban.name == name,
        };
        self.bans.iter().find(matches).map(|ban| ban.reason.as_str())
    }

    /// Whether the allowed licences satisfy the expression that a crate states.
    pub(crate) fn licence(&self, expression: Option<&str>) -> Result<(), String> {
        let Some(text) = expression else {
            return Err("states no licence; expected an SPDX expression in its Cargo.toml".to_owned());
        };
        // Lax: old crates write `MIT/Apache-2.0`.
        let parsed = Expression::parse_mode(text, ParseMode::LAX)
            .map_err(|error| format!("licence `{text}` is not an SPDX expression: {}", error.reason))?;
        let allowed = |wanted: &LicenseReq| self.allow.iter().any(|ours| ours.satisfies(wanted));
        parsed.evaluate_with_failures(allowed).map_err(|failed| {
            let failed: Vec<_> = failed.iter().map(|failed| failed.req.to_string()).collect();
            format!("licence `{text}`: {} not among those that are allowed", failed.join(", "))
        })
    }

    /// Takes out what an exception covers today; an exception that ended or that covers
    /// nothing is said.
    pub(crate) fn except(&self, findings: Findings, today: Date) -> Findings {
        let mut left = Findings { faults: Vec::new(), notes: findings.notes };
        let mut used = vec![false; self.exceptions.len()];
        for fault in findings.faults {
            let covers =
                |exception: &Exception| exception.check == fault.check && exception.subject == fault.subject;
            let Some((exception, used)) =
                self.exceptions.iter().zip(&mut used).find(|(exception, _)| covers(exception))
            else {
                left.faults.push(fault);
                continue;
            };
            *used = true;
            if exception.until < today {
                let text = format!(
                    "{} (the exception ended on {}: {})",
                    fault.text, exception.until, exception.reason
                );
                left.faults.push(Fault { text, ..fault });
            } else {
                left.notes.push(format!(
                    "excepted until {}: {} {}: {}",
                    exception.until,
                    fault.check.name(),
                    fault.subject,
                    exception.reason
                ));
            }
        }
        for (exception, _) in self.exceptions.iter().zip(&used).filter(|(_, used)| !**used) {
            left.notes.push(format!(
                "the exception for {} {} covers nothing: remove it from dependencies.toml",
                exception.check.name(),
                exception.subject
            ));
        }
        left
    }
}

impl ExceptionText {
    fn checked(self) -> Result<Exception> {
        if self.reason.trim().is_empty() {
            bail!("[[exception]] {}: expected a reason", self.subject);
        }
        let until = Date::parse(&self.until).with_context(|| {
            format!(
                "[[exception]] {}: until = \"{}\", expected a day such as 2027-01-31",
                self.subject, self.until
            )
        })?;
        Ok(Exception { check: self.check, subject: self.subject, reason: self.reason, until })
    }
}

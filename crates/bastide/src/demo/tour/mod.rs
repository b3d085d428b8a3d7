//! The tour: every attack beside an innocent, judged by what came back, by what the
//! services saw, and by what the audit log says refused it.
//!
//! The way through it: [`ROWS`] names the rows and the switch whose absence each one
//! notices; a row sends its trials through a [`visitor::Visitor`]; [`trail`] reads the
//! audit log; [`report`] prints.

mod report;
mod rows;
mod trail;
mod visitor;

use std::pin::Pin;

use anyhow::bail;
use model::Switch;
use model::suggestion::suggestion;
use tokio::time::Instant;

use super::environment::DemoEnvironment;
pub(super) use report::Paint;
pub use report::{Report, RowReport};
pub(crate) use visitor::Trial;
use visitor::Visitor;

/// A row under way.
type Visit<'v> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'v>>;

/// One row of the tour.
pub struct Row {
    /// Its stable name.
    pub name: &'static str,
    /// The switches (see the `switch-off` feature) that turn this row red.
    pub switches: &'static [Switch],
    visit: for<'v> fn(&'v mut Visitor<'_>) -> Visit<'v>,
}

/// Names rows, their functions and the switches that they notice.
macro_rules! rows {
    ($($name:literal => $visit:path, [$($switch:ident),*];)*) => {
        /// All rows, in the order in which they run: those that break something last.
        pub const ROWS: &[Row] = &[$(
            Row { name: $name, switches: &[$(Switch::$switch),*], visit: |visitor| Box::pin($visit(visitor)) },
        )*];
    };
}

rows! {
    "honest" => rows::honest::visit, [];
    "no-token" => rows::tokens::none, [Authenticate];
    "forged-token" => rows::tokens::forged, [Authenticate, TokenSignature];
    "stale-token" => rows::tokens::stale, [Authenticate, TokenTime];
    "foreign-token" => rows::tokens::foreign, [Authenticate, TokenAudience];
    "bound-token" => rows::bound::token, [TokenBinding];
    "replayed-proof" => rows::bound::proof, [ProofReplay];
    "other-owner" => rows::policy::other_owner, [Authorize];
    "refund" => rows::policy::refund, [Authorize, StepUp];
    "administration" => rows::policy::administration, [Authorize, Administration];
    "revoked-token" => rows::credentials::revoked_token, [Authenticate, Revocation];
    "login" => rows::sessions::login, [Authenticate];
    "other-site" => rows::sessions::other_site, [CrossSite];
    "step-up" => rows::sessions::step_up, [StepUp, Authorize];
    "revoked-session" => rows::sessions::revoked, [];
    "api-key" => rows::credentials::api_key, [Authenticate];
    "client-certificate" => rows::credentials::client_certificate, [Authenticate, ClientCertificate];
    "quota" => rows::limits::quota, [LimitPrincipal];
    "address-quota" => rows::limits::address_quota, [LimitAddress];
    "denied-address" => rows::limits::denied_address, [AddressLists];
    "forwarded-for" => rows::limits::forwarded_for, [Forwarded, AddressLists, LimitAddress];
    "smuggling" => rows::framing::smuggling, [Admit];
    "obscure-bytes" => rows::framing::obscure_bytes, [Admit];
    "paths" => rows::paths::visit, [Admit];
    "unknown-route" => rows::paths::unknown_route, [Route];
    "identity-header" => rows::headers::identity, [Admit, IdentityHeaders];
    "identity-token" => rows::headers::token, [IdentityToken];
    "head-bomb" => rows::headers::bomb, [LimitHead];
    "cross-origin" => rows::headers::cross_origin, [CrossOrigin];
    "body-limit" => rows::bodies::limit, [Inspect];
    "broken-promises" => rows::bodies::promises, [Validation];
    "sql-injection" => rows::firewall::sql_injection, [Firewall];
    "cross-site-scripting" => rows::firewall::scripting, [Firewall];
    "traversal" => rows::firewall::traversal, [Firewall];
    "unreadable-arguments" => rows::firewall::unreadable, [Firewall];
    "what-clients-learn" => rows::headers::what_clients_learn, [SecurityHeaders];
    "explain" => rows::operator::explain, [Audit, Authorize];
    "mesh-by-name" => rows::mesh::by_name, [Authorize];
    "no-identity" => rows::mesh::no_identity, [Attestation];
    "plain-text" => rows::mesh::plain_text, [MutualTls];
    "stolen-certificate" => rows::mesh::stolen_certificate, [Revocation];
    "blast-radius" => rows::mesh::blast_radius, [Authorize];
    "reload-under-load" => rows::operator::reload_under_load, [Reload];
    "broken-configuration" => rows::operator::broken_configuration, [Reload];
    "sick-upstream" => rows::upstream::sick, [Health];
    "killed-upstream" => rows::upstream::killed, [Forward];
}

/// The rows with these names; all of them for no name.
///
/// # Errors
/// There is no such row.
pub fn select(only: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    for name in only {
        if !ROWS.iter().any(|row| row.name == name) {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            let hint = suggestion(name, names.iter().copied());
            bail!("the tour has no row {name:?}{hint}; its rows: {}", names.join(", "));
        }
    }
    Ok(ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)).collect())
}

/// Walks the rows, then reads the audit log for each trial.
pub async fn run(demo: &mut DemoEnvironment, rows: &[&'static Row]) -> Report {
    let start = Instant::now();
    let mut reports = Vec::new();
    for row in rows {
        let mut visitor = Visitor::new(demo);
        let broke = (row.visit)(&mut visitor).await.err();
        let mut trials = visitor.into_trials();
        if let Some(broke) = broke {
            trials.push(Trial::broken("the row itself", &broke));
        }
        if let Err(gone) = demo.check_gateway() {
            trials.push(Trial::broken("the gateway itself", &gone));
        }
        reports.push(RowReport { row: row.name, trials });
    }
    trail::settle(demo, reports.iter_mut().flat_map(|report| &mut report.trials)).await;
    Report::new(reports, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_the_rows_in_their_order() {
        let text = include_str!("../../../../../docs/tour.md");
        let documented: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let rows: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(documented, rows);
    }

    #[test]
    fn row_names_are_unique_and_unknown_ones_are_told() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());

        assert_eq!(select(&[]).unwrap().len(), ROWS.len());
        assert_eq!(select(&["quota".to_owned()]).unwrap().len(), 1);
        let fault = select(&["qouta".to_owned()]).err().unwrap().to_string();
        assert!(fault.contains("did you mean \"quota\"?"), "{fault}");
    }
}

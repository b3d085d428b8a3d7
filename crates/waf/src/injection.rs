//! The one seam over the detection of SQL injection and cross-site scripting.
//!
//! Both take a value apart as its victim would, in each place that it could be put in: SQL
//! as it stands, inside of single and of double quotes; HTML between tags, in a tag and in
//! each kind of quotes. SQL is then folded to a fingerprint of at most five tokens, and
//! the fingerprint is looked up. This is the algorithm of libinjection, whose tables are
//! used as they are; the code is our own, because it has to be memory-safe and fast, and
//! because it must not miss what the original catches: `injection/tests.rs` compares the
//! two. `docs/decisions/0009-own-injection-detection.md` says why.
//!
//! Time is linear in the value but for one thing: a long value is looked at up to five
//! times. No memory is allocated.

mod fingerprint;
mod fold;
mod html;
mod script;
mod sql;
mod token;
mod tokenizer;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use fingerprint::Fingerprint;

/// The fingerprint of the SQL injection that `value` is, if it is one.
pub(crate) fn sql(value: &[u8]) -> Option<Fingerprint> {
    sql::detect(value)
}

/// Whether `value` runs a script when it is put into a page.
pub(crate) fn script(value: &[u8]) -> bool {
    script::detect(value)
}

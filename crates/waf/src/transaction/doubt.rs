//! Bodies that others could read otherwise than they were read here for the rules.

use super::{body::multipart_flags, state::State};
use crate::{
    body::{BodyKind, MultipartFlags, Parsed, charset},
    plan::Judges,
    ruleset::RuleSet,
    variable::Variable,
};

impl State {
    /// Whether the request's body is one of them, and no rule takes that upon itself by a look
    /// at what tells of it.
    pub(super) fn is_doubtful(&self, set: &RuleSet, parsed: Option<&Parsed>) -> bool {
        let plan = &set.plan;
        let is_looked_at = parsed.is_some() || self.body.keeps_raw(plan);
        (is_looked_at && !plan.judges.charset && self.is_in_foreign_charset())
            || parsed.is_some_and(|parsed| is_ambiguous(&plan.judges, &parsed.multipart))
    }

    fn is_in_foreign_charset(&self) -> bool {
        let name = crate::target::Selector::Name(b"content-type".to_vec());
        let is_xml = self.body.kind == Some(BodyKind::Xml);
        let mut found = self.store.select(Variable::RequestHeaders, &name);
        found.any(|member| charset::is_foreign(self.store.values.value(member.value), is_xml))
    }
}

/// Whether a multipart body has parts that readers find elsewhere, or read otherwise.
fn is_ambiguous(judges: &Judges, flags: &MultipartFlags) -> bool {
    use Variable as V;
    let strict = judges.tells(V::MultipartStrictError);
    let raised = multipart_flags(flags).into_iter().any(|(variable, up)| match variable {
        // The first two stand for others. On a boundary in quotes readers agree, and one that
        // has them in the body too is an error.
        V::MultipartStrictError | V::MultipartCrlfLfLines | V::MultipartBoundaryQuoted => false,
        // Honest texts have lines that begin with two dashes, but not with this boundary.
        V::MultipartUnmatchedBoundary => up == 1 && !judges.tells(variable),
        _ => up > 0 && !strict && !judges.tells(variable),
    });
    raised
        || (flags.foreign_charset && !judges.part_charset)
        || (flags.foreign_encoding && !judges.part_encoding)
}

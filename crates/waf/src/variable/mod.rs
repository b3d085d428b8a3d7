//! The variables of a transaction: names, what kind of value they have, and when.

mod table;

pub(crate) use table::{COUNT, Variable};

/// How often a variable's value may change, which decides what may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stability {
    /// Set once by the transaction's data; values are kept in the store.
    Fixed,
    /// Changed by rules or by time; read anew each time.
    Volatile,
}

impl Variable {
    /// Whether rules may change it.
    pub(crate) fn stability(self) -> Stability {
        use Variable as V;
        match self {
            V::Tx
            | V::Ip
            | V::Global
            | V::Session
            | V::User
            | V::Resource
            | V::Env
            | V::Geo
            | V::Rule
            | V::MatchedVar
            | V::MatchedVarName
            | V::MatchedVars
            | V::MatchedVarsNames
            | V::HighestSeverity
            | V::Duration
            | V::Time
            | V::TimeDay
            | V::TimeEpoch
            | V::TimeHour
            | V::TimeMin
            | V::TimeMon
            | V::TimeSec
            | V::TimeWday
            | V::TimeYear
            | V::SessionId
            | V::UserId
            | V::ReqbodyProcessor
            | V::MscPcreError
            | V::MscPcreLimitsExceeded => Stability::Volatile,
            _ => Stability::Fixed,
        }
    }

    /// Whether it has no value before the request's body is read.
    pub(crate) fn waits_for_request_body(self) -> bool {
        use Variable as V;
        matches!(
            self,
            V::ArgsPost
                | V::ArgsPostNames
                | V::Files
                | V::FilesCombinedSize
                | V::FilesNames
                | V::FilesSizes
                | V::FilesTmpContent
                | V::FullRequest
                | V::FullRequestLength
                | V::InboundDataError
                | V::MultipartBoundaryQuoted
                | V::MultipartBoundaryWhitespace
                | V::MultipartCrlfLfLines
                | V::MultipartDataAfter
                | V::MultipartDataBefore
                | V::MultipartFilename
                | V::MultipartFileLimitExceeded
                | V::MultipartHeaderFolding
                | V::MultipartInvalidHeaderFolding
                | V::MultipartInvalidPart
                | V::MultipartInvalidQuoting
                | V::MultipartLfLine
                | V::MultipartMissingSemicolon
                | V::MultipartName
                | V::MultipartPartHeaders
                | V::MultipartStrictError
                | V::MultipartUnmatchedBoundary
                | V::ReqbodyProcessorError
                | V::ReqbodyProcessorErrorMsg
                | V::RequestBody
                | V::RequestBodyLength
                | V::Xml
        )
    }

    /// Whether the request's body has a part in its value.
    pub(crate) fn is_of_request_body(self) -> bool {
        use Variable as V;
        self.waits_for_request_body()
            || matches!(self, V::ArgsCombinedSize | V::ReqbodyError | V::ReqbodyErrorMsg | V::UrlencodedError)
    }

    /// Whether it is a persistent collection.
    pub(crate) fn is_persistent(self) -> bool {
        matches!(self, Self::Ip | Self::Global | Self::Session | Self::User | Self::Resource)
    }

    /// Whether rules may write it with `setvar`.
    pub(crate) fn is_writable(self) -> bool {
        self == Self::Tx || self.is_persistent()
    }

    /// The stored variables that it is read from: `ARGS` is two, most are themselves.
    pub(crate) fn parts(self) -> &'static [Self] {
        use Variable as V;
        match self {
            V::Args => &[V::ArgsGet, V::ArgsPost],
            V::ArgsNames => &[V::ArgsGetNames, V::ArgsPostNames],
            _ => table::alone(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_variable_and_back() {
        for variable in Variable::all() {
            assert_eq!(Variable::from_name(variable.name()), Some(*variable));
            assert_eq!(Variable::from_name(&variable.name().to_ascii_lowercase()), Some(*variable));
        }
        assert_eq!(Variable::from_name("NO_SUCH"), None);
    }

    #[test]
    fn args_are_read_from_query_and_body() {
        assert_eq!(Variable::Args.parts(), [Variable::ArgsGet, Variable::ArgsPost]);
        assert_eq!(Variable::RequestLine.parts(), [Variable::RequestLine]);
    }

    #[test]
    fn what_rules_change_is_volatile() {
        assert_eq!(Variable::Tx.stability(), Stability::Volatile);
        assert_eq!(Variable::Args.stability(), Stability::Fixed);
    }
}

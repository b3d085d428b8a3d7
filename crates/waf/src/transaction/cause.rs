//! Why the engine itself denies.

use super::Verdict;
use std::fmt;

/// What the engine itself has against a transaction, whatever the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The request's body cannot be read to its end, and no rule judges that.
    BodyUnreadable,
    /// The request's body could be read in another way than it was for the rules, and no rule judges that.
    BodyAmbiguous,
    /// The request's body is longer than its limit.
    BodyTooLong,
    /// The answer's body is longer than its limit.
    ResponseTooLong,
    /// Values found no place in the memory that a transaction has.
    ValuesTooMany,
    /// An operator could not answer.
    Operator,
    /// More values matched than a rule that reads them is shown.
    MatchesTooMany,
    /// Rules made more `TX` variables than a transaction has.
    NamesTooMany,
}

impl Cause {
    pub(super) fn verdict(self) -> Verdict {
        Verdict::Deny { status: self.status(), rule: 0, cause: Some(self) }
    }

    /// The status of the answer: of a body over its limit that of RFC 9110, 15.5.14; of an answer over
    /// its own ModSecurity's.
    fn status(self) -> u16 {
        match self {
            Self::BodyUnreadable | Self::BodyAmbiguous => 400,
            Self::BodyTooLong => 413,
            Self::ResponseTooLong
            | Self::ValuesTooMany
            | Self::Operator
            | Self::MatchesTooMany
            | Self::NamesTooMany => 500,
        }
    }
}

/// For people.
impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::BodyUnreadable => "the firewall cannot read the body to its end",
            Self::BodyAmbiguous => "a service could read the body differently than the firewall",
            Self::BodyTooLong => "the body has more bytes than the firewall's rules are given to see",
            Self::ResponseTooLong => "the response has more bytes than the firewall's rules are given to see",
            Self::ValuesTooMany => "the message's values take more memory than the firewall's rules have",
            Self::Operator => "a rule of the firewall could not be evaluated",
            Self::MatchesTooMany => "more values match than a rule of the firewall is given to see",
            Self::NamesTooMany => "the firewall's rules keep more variables than they have room for",
        })
    }
}

//! Files to a rule set.

//! What a rule looks at.

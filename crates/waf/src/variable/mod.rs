//! The variables of a transaction.

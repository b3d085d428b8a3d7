//! Named limits of this crate. Each has a test at the limit and one past it.

/// Bytes of one policy file.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Policies of one generation.
pub const POLICIES_MAX: usize = 10_000;
/// Declared roles.
pub const ROLES_MAX: usize = 4096;
/// Methods with an action of their own, the standard ones included.
pub const METHODS_MAX: usize = 32;
/// Brackets inside one another in a policy. Cedar's reader and type checker descend
/// by recursion, so that depth is stack.
pub const NESTING_MAX: usize = 32;
/// Operators, dots, brackets and keywords in one policy, for the same reason: a chain
/// of them is a deep tree.
pub const OPERATORS_MAX: usize = 400;
/// Decisions that one core remembers.
pub const CACHE_ENTRIES_MAX: usize = 8192;
/// Bytes of keys and records of remembered decisions, per core.
pub const CACHE_BYTES_MAX: usize = 4 << 20;
/// Bytes of key and record of one decision; a larger one is made each time.
pub const CACHE_ENTRY_BYTES_MAX: usize = 4096;

//! Collections that outlive a transaction (IP, GLOBAL, SESSION, USER, RESOURCE): bounded
//! memory that the caller owns, with expiry by the caller's clock.

/// How much a [`Memory`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Most collections (an address, a session, …) at once.
    pub collections_max: usize,
    /// Most variables of one collection.
    pub variables_max: usize,
    /// Longest value, bytes.
    pub value_bytes_max: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { collections_max: 100_000, variables_max: 128, value_bytes_max: 4_096 }
    }
}

/// The persistent collections of one rule set, shared by all its transactions.
#[derive(Debug)]
pub struct Memory {
    limits: MemoryLimits,
}

impl Memory {
    /// Empty, within `limits`.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        Self { limits }
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }
}

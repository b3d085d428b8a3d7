//! The proof that a request was held against its route's contract.

use model::Switch;

use crate::contract::{Contract, Mode};
use crate::violation::Violations;

/// Says that a request met its route's contract, or that its route has none. Made only
/// here: by a judgement ([`Contract::open`], [`crate::BodyCheck::judge`]), by a contract
/// that only reports ([`Contract::excuse`]), and for routes without one
/// ([`Pass::without_contract`]).
///
/// ```
/// fn look(pass: &contract::Pass) -> u64 {
///     pass.contract()
/// }
/// ```
/// None is made by hand:
/// ```compile_fail,E0451
/// fn forge() -> contract::Pass {
///     contract::Pass { contract: 1, operation: None }
/// }
/// ```
/// It is not copied: one judgement forwards one request.
/// ```compile_fail,E0277
/// fn copy(pass: contract::Pass) {
///     fn twice<T: Clone>(_: T) {}
///     twice(pass);
/// }
/// ```
#[derive(Debug)]
pub struct Pass {
    contract: u64,
    operation: Option<usize>,
}

impl Pass {
    /// For a route that has no contract. Forwarding refuses it for one that has.
    pub fn without_contract() -> Self {
        Self { contract: 0, operation: None }
    }

    /// The digest of the contract that was met; 0 for none.
    pub fn contract(&self) -> u64 {
        self.contract
    }

    /// The operation that the request asks for: its number in the contract.
    pub fn operation(&self) -> Option<usize> {
        self.operation
    }

    pub(crate) fn earned(contract: &Contract, operation: Option<usize>) -> Self {
        Self { contract: contract.digest(), operation }
    }
}

impl Contract {
    /// Lets a request pass that breaks the contract, when the contract only reports what
    /// is broken.
    ///
    /// # Errors
    /// The contract is enforced; the violations are handed back.
    pub fn excuse(&self, violations: Violations, operation: Option<usize>) -> Result<Pass, Violations> {
        let settings = self.settings();
        if Switch::Validation.is_off() {
            return Ok(Pass::earned(self, operation));
        }
        let undocumented = violations.first().class.is_undocumented();
        match if undocumented { settings.undocumented } else { settings.mode } {
            Mode::Report => Ok(Pass::earned(self, operation)),
            Mode::Enforce => Err(violations),
        }
    }
}

//! One row per class of fault.

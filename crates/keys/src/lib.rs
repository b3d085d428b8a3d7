//! Everything that signs or verifies

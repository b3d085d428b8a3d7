//! Words to rules.

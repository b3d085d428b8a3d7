//! Texts with macros (`%{…}`).

//! Rules laid out per phase, with what they share computed once.

//! Text to directives and their words, each byte with its place.

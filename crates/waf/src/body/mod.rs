//! Body processors: bytes of a body in, arguments, files and flags out.

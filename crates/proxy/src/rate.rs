//! Rate limits, exact across cores.

/// The limiter's word that a request fits. Made by the limiter alone.
#[derive(Debug)]
pub struct Grant {
    _made_here: (),
}

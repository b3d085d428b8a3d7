//! What the hop said about the head: admitted, or refused with the class of input that
//! it falls into.

use http::StatusCode;
use model::event::Step;
use proxy::Admitted;

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};

/// Takes the admitted request, or refuses as admission did.
///
/// # Errors
/// The head was refused.
pub fn admit(journey: &mut Journey<'_>, arrived: Result<Admitted, proxy::Refusal>) -> Result<Admitted, Stop> {
    journey.step = Step::Admit;
    match arrived {
        Ok(admitted) => {
            journey.note_head(admitted.head());
            Ok(admitted)
        }
        Err(refused) => {
            journey.note_refused_head(&refused);
            let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let class = refused.class.row().name;
            Err(Refusal::new(Step::Admit, class, status, refused.to_string()).into())
        }
    }
}

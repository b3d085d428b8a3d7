//! Eight bytes at a time. Most values of a head are a word or two long: a search made for
//! long texts takes longer to begin and to end there than for what lies between.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Whether none of the bytes is a control character but the tab (RFC 9110 §5.5).
pub(crate) fn is_free_of_controls(bytes: &[u8]) -> bool {
    let controls = |word: &[u8; 8]| marks(u64::from_le_bytes(*word));
    // The last word may overlap the one before.
    if let Some(last) = bytes.last_chunk::<16>() {
        let blocks = bytes.as_chunks::<16>().0;
        let rest = last.as_chunks::<8>().0.iter().fold(0, |bad, word| bad | controls(word));
        return rest == 0 && blocks.iter().all(is_block_free_of_controls);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return controls(first) | controls(last) == 0;
    }
    !bytes.iter().any(|&byte| is_control(byte))
}

/// Every byte is looked at, whatever came before: so the compiler takes all at once.
fn is_block_free_of_controls(block: &[u8; 16]) -> bool {
    !block.iter().fold(false, |bad, &byte| bad | is_control(byte))
}

const fn is_control(byte: u8) -> bool {
    ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f)
}

/// Bit 7 of each byte of a word that is a control character but the tab.
const fn marks(word: u64) -> u64 {
    // Without their bit 7 the bytes can be added to without a carry into the next.
    let low = word & !HIGH;
    let past_controls = low + 0x60 * ONES;
    let no_tab = (low ^ (0x09 * ONES)) + 0x7f * ONES;
    let no_delete = (low ^ (0x7f * ONES)) + 0x7f * ONES;
    ((!past_controls & no_tab) | !no_delete) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_seen_wherever_it_stands() {
        for around in [b'v', 0x89, b'\t'] {
            for length in [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 23, 24, 31, 32, 33, 39, 40, 41, 48, 55] {
                for place in 0..length {
                    let mut text = vec![around; length];
                    for byte in 0..=u8::MAX {
                        text[place] = byte;
                        let control = byte != b'\t' && (byte < 0x20 || byte == 0x7f);
                        assert_eq!(is_free_of_controls(&text), !control, "{text:?}");
                    }
                }
            }
        }
        assert!(is_free_of_controls(b""));
    }
}

//! What is asked of every byte of a value is looked up, not worked out.

/// What a constant function says of each byte, as a table of 256.
macro_rules! by_byte {
    ($of:expr) => {{
        let mut table = [$of(0); 256];
        let mut byte = 0;
        while byte < 256 {
            #[expect(
                clippy::indexing_slicing,
                clippy::cast_possible_truncation,
                reason = "at compile time, below 256"
            )]
            {
                table[byte] = $of(byte as u8);
            }
            byte += 1;
        }
        table
    }};
}

pub(crate) use by_byte;

//! One suite for every database: what the store promises, asked through its public
//! functions alone.

#[cfg(test)]
mod clock;
#[cfg(test)]
mod records;
#[cfg(test)]
mod town;
#[cfg(test)]
mod watches;

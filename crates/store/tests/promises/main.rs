//! What the store promises, asked through its public functions alone, of every database.

#[cfg(test)]
mod backups;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod frozen;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod model_based;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod records;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod server;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod theft;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod watches;

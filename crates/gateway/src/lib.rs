//! North-south: everything that enters the town

pub mod metric;

//! North-south: everything that enters the town

//! The kernel twin of each interface, and what it knows: routes and neighbours.

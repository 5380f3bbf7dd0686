//! Fragments that wait for the first one of their datagram, and what is known of that one.

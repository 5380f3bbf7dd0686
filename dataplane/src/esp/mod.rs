//! ESP through port translation: halves, pairing, held packets (RFC 4303).

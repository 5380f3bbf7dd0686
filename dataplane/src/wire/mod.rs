//! Views over headers: bounds checked once, offsets kept.

//! The configuration language: text to syntax tree to checked configuration to data plane policy.

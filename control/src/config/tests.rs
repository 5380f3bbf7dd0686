use super::*;

mod samples;

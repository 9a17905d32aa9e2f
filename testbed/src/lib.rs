//! A QVD cluster on one machine, for tests.

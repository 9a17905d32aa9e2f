//! L7R, the Level-7 Router that users connect to.

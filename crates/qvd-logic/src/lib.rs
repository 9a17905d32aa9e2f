//! Decisions as pure state machines: lifecycle, session, placement, cluster, roles.

#![forbid(unsafe_code)]

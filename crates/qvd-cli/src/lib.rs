//! qa4, the administrator's command line.

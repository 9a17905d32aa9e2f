//! QVD-DB: the only place with SQL.

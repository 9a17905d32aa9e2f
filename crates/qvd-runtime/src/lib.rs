//! Configuration layers, logs, metrics, signals, readiness, private PostgreSQL.

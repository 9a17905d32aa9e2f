//! The figures of `docs/performance.md`. Each one stands beside its budget and, where there is one, a peer or the
//! physical floor that was measured in the same run.
//!
//! `cargo run --release -p benches -- all`, or one of the names below. As root: desktops are real.

mod admin;
mod by_hand;
mod daemon;
mod desktops;
mod disk;
mod installation;
mod peer;
mod phases;
mod relay;
mod router;
mod storage;
mod table;
mod usage;

use anyhow::Result;
use clap::{Parser, Subcommand};
use table::Table;

#[derive(Debug, Parser)]
#[command(about = "Measures what docs/performance.md promises")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Everything, one after the other.
    All,
    /// TLS to a desktop: bytes and handshakes of one core.
    Relay,
    /// A router with many clients: memory of each, and how fast all come back after a restart.
    Router {
        /// How many clients.
        #[arg(long, default_value_t = 5000)]
        clients: usize,
    },
    /// The API with many VMs, and `qa4` against it.
    Admin {
        /// How many VMs, each of a user of its own.
        #[arg(long, default_value_t = 10_000)]
        vms: u32,
        /// Requests in each second.
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// For how many seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Unpacking and cloning an image.
    Storage,
    /// From the start of a client to the pixels of its desktop.
    Pixel {
        /// How often.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Many desktops at once, then what they cost when nobody uses them.
    Farm {
        /// How many start at once.
        #[arg(long, default_value_t = 50)]
        starts: usize,
        /// How many are idle.
        #[arg(long, default_value_t = 100)]
        idle: usize,
        /// Seconds to watch them.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> Result<()> {
    if !disk::is_own() {
        return disk::become_own();
    }
    let mut table = Table::default();
    match Arguments::parse().what {
        What::All => {
            relay::measure(&mut table)?;
            router::measure(&mut table, 5000)?;
            admin::measure(&mut table, 10_000, 200, 30)?;
            storage::measure(&mut table)?;
            desktops::pixel(&mut table, 20)?;
            desktops::farm(&mut table, 50, 100, 60)?;
        }
        What::Relay => relay::measure(&mut table)?,
        What::Router { clients } => router::measure(&mut table, clients)?,
        What::Admin { vms, rate, seconds } => admin::measure(&mut table, vms, rate, seconds)?,
        What::Storage => storage::measure(&mut table)?,
        What::Pixel { runs } => desktops::pixel(&mut table, runs)?,
        What::Farm { starts, idle, seconds } => desktops::farm(&mut table, starts, idle, seconds)?,
    }
    table.print();
    Ok(())
}

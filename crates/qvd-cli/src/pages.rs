//! Listings of the shell that are longer than a page.

use std::io::{Read, Write, stdin};
use std::process::{Command, Stdio};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};

use crate::api::Call;
use crate::error::Error;
use crate::output::{Column, Listing, unwritten};
use crate::run::Context;

/// How long listings are shown.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    /// Rows of a page.
    pub(crate) size: u32,
    /// A program that shows them instead of us.
    pub(crate) program: Option<String>,
}

/// Where to go from a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Next,
    Back,
    Quit,
    Other,
}

impl Pages {
    /// Shows the answer of a listing, page by page if it has several.
    pub(crate) async fn show(
        self,
        context: &mut Context<'_>,
        mut call: Call,
        columns: Vec<Column>,
    ) -> Result<(), Error> {
        if let Some(program) = &self.program {
            let answer = context.api.call(&call).await?;
            let long = answer.rows.len() as u64 > u64::from(self.size);
            let listing = Listing { columns, rows: answer.rows, total: answer.total };
            if !long {
                return context.print(listing);
            }
            let mut text = Vec::new();
            listing.print(context.style(), &mut text)?;
            return pipe(program, &text);
        }
        call.block = self.size;
        let mut page: u32 = 1;
        loop {
            call.page = page;
            let answer = context.api.call(&call).await?;
            let pages = answer.total.div_ceil(u64::from(self.size)).max(1);
            context.print(Listing { columns: columns.clone(), rows: answer.rows, total: answer.total })?;
            context.out.flush().map_err(unwritten)?;
            if pages == 1 {
                return Ok(());
            }
            eprint!("page {page}/{pages}  n next, b back, q quit ");
            let key = key()?;
            eprintln!();
            page = match turned(page, pages, key) {
                Some(page) => page,
                None => return Ok(()),
            };
        }
    }
}

/// The page after a key; `None` leaves.
fn turned(page: u32, pages: u64, key: Key) -> Option<u32> {
    match key {
        Key::Next if u64::from(page) < pages => Some(page + 1),
        Key::Back if page > 1 => Some(page - 1),
        Key::Quit => None,
        Key::Next | Key::Back | Key::Other => Some(page),
    }
}

/// One key, without waiting for a line.
fn key() -> Result<Key, Error> {
    let terminal = stdin();
    let failed = |e: nix::Error| Error::Usage(format!("cannot read a key: {e}"));
    let before = tcgetattr(&terminal).map_err(failed)?;
    let mut raw = before.clone();
    raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    for (index, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
        if let Some(slot) = raw.control_chars.get_mut(index as usize) {
            *slot = value;
        }
    }
    tcsetattr(&terminal, SetArg::TCSADRAIN, &raw).map_err(failed)?;
    let mut byte = [0];
    let read = terminal.lock().read(&mut byte);
    tcsetattr(&terminal, SetArg::TCSADRAIN, &before).map_err(failed)?;
    let read = read.map_err(|e| Error::Usage(format!("cannot read a key: {e}")))?;
    Ok(match byte {
        // The end of input, Ctrl-C and Ctrl-D leave as well.
        _ if read == 0 => Key::Quit,
        [b'q' | b'Q' | 3 | 4] => Key::Quit,
        [b'n' | b'N' | b' '] => Key::Next,
        [b'b' | b'B'] => Key::Back,
        _ => Key::Other,
    })
}

/// Lets a program show a text.
pub(crate) fn pipe(program: &str, text: &[u8]) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::Usage(format!("PAGER {program}: {e}"));
    let mut words = program.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("less"));
    let mut child = command.args(words).stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(text) {
            // It was left before its end.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.map_err(failed)?,
        }
    }
    child.wait().map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_do_not_go_beyond_their_ends() {
        assert_eq!(turned(1, 3, Key::Next), Some(2));
        assert_eq!(turned(3, 3, Key::Next), Some(3));
        assert_eq!(turned(1, 3, Key::Back), Some(1));
        assert_eq!(turned(2, 3, Key::Back), Some(1));
        assert_eq!(turned(2, 3, Key::Other), Some(2));
        assert_eq!(turned(2, 3, Key::Quit), None);
    }
}

//! Carries what was committed from the log into the database: in a thread of its own, since that waits for the disk and those who commit
//! answer the kernel.

use std::sync::mpsc::sync_channel;
use std::thread;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

/// Pages that come into the log until that is done again.
const PAGES: i32 = 4000;
/// Pages in the log from which on the one who commits does the rest himself: while others go on committing, the log only ever begins
/// anew when all of it was carried over.
const PAGES_MAX: i32 = 4 * PAGES;

/// Does it from now on for what `writer` commits, through a connection of its own, until `writer` is closed.
pub(super) fn begin(writer: &mut Connection, own: Connection) -> std::io::Result<()> {
    let (wake, woken) = sync_channel(1);
    thread::Builder::new().name("meta.checkpoint".into()).spawn(move || {
        for () in woken {
            let carried = own.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            report(carried);
        }
    })?;
    let mut turns = Turns { next: PAGES };
    let committed = move |log: &mut Wal, pages| {
        match turns.after(pages) {
            Turn::Nobodys => {}
            // If it has not taken the last one, it will find this too.
            Turn::Threads => drop(wake.try_send(())),
            Turn::Writers => report(log.checkpoint()),
        }
        Ok(())
    };
    writer.wal_hook(Some(committed)).map_err(std::io::Error::other)
}

/// Whose turn it is to carry the log over.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Nobodys,
    Threads,
    Writers,
}

struct Turns {
    /// The thread's next turn.
    next: i32,
}

impl Turns {
    /// After a commit that left so many `pages` in the log.
    fn after(&mut self, pages: i32) -> Turn {
        if pages < PAGES {
            self.next = PAGES;
            return Turn::Nobodys;
        }
        if pages >= PAGES_MAX {
            return Turn::Writers;
        }
        if pages < self.next {
            return Turn::Nobodys;
        }
        self.next = pages + PAGES;
        Turn::Threads
    }
}

/// What could not be carried over is safe in the log, and tried again after the next commit.
fn report(carried: rusqlite::Result<()>) {
    if let Err(error) = carried {
        tracing::debug!(%error, "the log of the metadata store could not be carried over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_has_a_turn_now_and_then_and_the_writer_the_last_one() {
        let mut turns = Turns { next: PAGES };
        let mut whose = |pages| turns.after(pages);
        assert_eq!(whose(PAGES - 1), Turn::Nobodys);
        assert_eq!(whose(PAGES), Turn::Threads);
        assert_eq!(whose(PAGES + 1), Turn::Nobodys);
        assert_eq!(whose(2 * PAGES), Turn::Threads);
        assert_eq!(whose(PAGES_MAX), Turn::Writers);
        // The log begins anew.
        assert_eq!(whose(3), Turn::Nobodys);
        assert_eq!(whose(PAGES), Turn::Threads);
    }
}

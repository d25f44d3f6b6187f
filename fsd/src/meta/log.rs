//! The database's log, written a commit at a time. SQLite writes each page of a commit by two calls, one for the header before it; here all
//! that comes before the last page's header goes along with it. Everything else is as in SQLite's own `unix-excl`, below this.
//!
//! The log is used again from its start, and its pages don't begin where the disk's do. So what is written over in part must be in memory: it
//! is read ahead, or each commit would wait for it when the kernel has forgotten it.
//!
//! Invariant: nothing is held back once the header of a commit's last page is written, and what is held back is nobody's but the one
//! transaction's that writes it.

#![expect(unsafe_code, reason = "a VFS is a table of C functions")]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rusqlite::ffi;

/// The VFS that a connection is to be opened with.
pub(super) const VFS: &CStr = c"fsd";
/// One process has the database, and its connections share their index of the log in memory.
const BELOW: &CStr = c"unix-excl";
/// Before each page in the log; <https://sqlite.org/fileformat2.html#the_write_ahead_log>.
const HEADER_BYTES: usize = 24;
/// Where a header tells the length of the database after the commit; zero before any page but its last one.
const LENGTH_AT: std::ops::Range<usize> = 4..8;
/// Not much more is held back, however large a transaction is: SQLite's own VFS can't write 128 KiB at once, and says that the disk is full.
const HELD_BYTES_MAX: usize = 64 << 10;

/// How much of the log is read before it is written over.
const AHEAD_BYTES: ffi::sqlite3_int64 = 512 << 10;

/// The log as SQLite has it open. SQLite gives the memory for it, and behind it that for the file below.
#[repr(C)]
struct Log {
    base: ffi::sqlite3_file,
    held: *mut Held,
}

/// What is to be written, all of it in one piece.
struct Held {
    offset: ffi::sqlite3_int64,
    bytes: Vec<u8>,
    /// The log again, to read ahead, and where that ends.
    file: Option<File>,
    read_to: ffi::sqlite3_int64,
}

impl Held {
    fn new(path: &Path) -> Self {
        // Without it all is the same but slower.
        Self { offset: 0, bytes: Vec::new(), file: File::open(path).ok(), read_to: 0 }
    }

    /// Lets what lies from `offset` on be read, unless it was.
    fn read_ahead(&mut self, offset: ffi::sqlite3_int64) {
        let begins_anew = offset + 2 * AHEAD_BYTES < self.read_to;
        if let Some(file) = &self.file
            && (begins_anew || offset + AHEAD_BYTES > self.read_to)
        {
            let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            // Advice is all it is.
            let _ = posix_fadvise(file, offset, 2 * AHEAD_BYTES, advice);
            self.read_to = offset + 2 * AHEAD_BYTES;
        }
    }

    fn end(&self) -> ffi::sqlite3_int64 {
        self.offset + self.bytes.len() as ffi::sqlite3_int64
    }
}

/// Whether a commit is whole with what is written now and the page behind it.
fn is_last_header(bytes: &[u8]) -> bool {
    bytes.len() == HEADER_BYTES && bytes[LENGTH_AT] != [0; 4]
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes [`VFS`] known to SQLite, once.
///
/// # Errors
/// SQLite's code, if it can't be.
pub(super) fn register() -> Result<(), c_int> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let code = *REGISTERED.get_or_init(|| {
        // SAFETY: the name ends with a zero.
        let below = unsafe { ffi::sqlite3_vfs_find(BELOW.as_ptr()) };
        if below.is_null() {
            return ffi::SQLITE_NOTFOUND;
        }
        // SAFETY: SQLite keeps its own VFS as long as the process lives. A copy of it serves as well: its functions use nothing of it but
        // `pAppData`, save `xOpen`, which is given the original.
        let mut ours = unsafe { *below };
        ours.zName = VFS.as_ptr();
        ours.pNext = null_mut();
        ours.szOsFile += c_int::try_from(size_of::<Log>()).unwrap_or(c_int::MAX);
        ours.xOpen = Some(open);
        // SAFETY: what is registered stays there for ever.
        unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 0) }
    });
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: the name ends with a zero; `register` found it there.
    let below = unsafe { ffi::sqlite3_vfs_find(BELOW.as_ptr()) };
    // SAFETY: SQLite keeps its own VFS as long as the process lives.
    let Some(open_below) = (unsafe { (*below).xOpen }) else { return ffi::SQLITE_CANTOPEN };
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        // SAFETY: the arguments are SQLite's own; there is more memory at `file` than is asked for.
        return unsafe { open_below(below, name, file, flags, flags_out) };
    }
    let log = file.cast::<Log>();
    // SAFETY: `szOsFile` has room for both, one behind the other; all other arguments are SQLite's own.
    unsafe {
        (*log).base.pMethods = null();
        let code = open_below(below, name, inner(file), flags, flags_out);
        if code == ffi::SQLITE_OK {
            let path = Path::new(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
            (*log).held = Box::into_raw(Box::new(Held::new(path)));
            (*log).base.pMethods = &raw const METHODS;
        }
        code
    }
}

/// The file below.
///
/// # Safety
/// `file` is one that [`open`] was given.
unsafe fn inner(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: it lies behind ours, in the same memory.
    unsafe { file.cast::<Log>().add(1).cast() }
}

/// What is held back of `file`.
///
/// # Safety
/// [`open`] succeeded for `file`, [`close`] did not end, and nobody else has this: SQLite uses a file in one thread at a time.
unsafe fn held<'f>(file: *mut ffi::sqlite3_file) -> &'f mut Held {
    // SAFETY: then it is a box of ours.
    unsafe { &mut *(*file.cast::<Log>()).held }
}

/// Calls a method of the file below.
macro_rules! below {
    ($file:ident, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite calls methods only of a file that is open, and then so is the one below, with all methods of version 1.
        unsafe {
            let file = inner($file);
            match (*(*file).pMethods).$method {
                Some(method) => method(file $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

/// Writes what is held back. What fails is not tried again: then SQLite gives the transaction up.
fn flush(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: only methods call this, and none of them has it meanwhile.
    let held = unsafe { held(file) };
    if held.bytes.is_empty() {
        return ffi::SQLITE_OK;
    }
    let length = c_int::try_from(held.bytes.len()).unwrap_or(c_int::MAX);
    let code = below!(file, xWrite, held.bytes.as_ptr().cast(), length, held.offset);
    held.bytes.clear();
    code
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: so SQLite promises.
    let piece = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length as usize) };
    // SAFETY: we are in a method, and `flush` is called when it is used no more.
    let pending = unsafe { held(file) };
    if !pending.bytes.is_empty() && offset != pending.end() {
        let code = flush(file);
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    // SAFETY: as before.
    let pending = unsafe { held(file) };
    if pending.bytes.is_empty() {
        // The page of a commit's last header, what is written over, the head of the log.
        if piece.len() != HEADER_BYTES {
            return below!(file, xWrite, bytes, length, offset);
        }
        pending.offset = offset;
        pending.read_ahead(offset);
    }
    pending.bytes.extend_from_slice(piece);
    if is_last_header(piece) || pending.bytes.len() >= HELD_BYTES_MAX {
        return flush(file);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let flushed = flush(file);
    let closed = below!(file, xClose);
    // SAFETY: `open` made it, and no method of a file is called after this one.
    drop(unsafe { Box::from_raw((*file.cast::<Log>()).held) });
    if flushed == ffi::SQLITE_OK { closed } else { flushed }
}

/// A method that first writes what is held back.
macro_rules! after_flush {
    ($name:ident, $method:ident $(, $argument:ident: $type:ty)*) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> c_int {
            let code = flush(file);
            if code == ffi::SQLITE_OK { below!(file, $method $(, $argument)*) } else { code }
        }
    };
}

after_flush!(read, xRead, bytes: *mut c_void, length: c_int, offset: ffi::sqlite3_int64);
after_flush!(truncate, xTruncate, length: ffi::sqlite3_int64);
after_flush!(sync, xSync, flags: c_int);
after_flush!(file_size, xFileSize, length: *mut ffi::sqlite3_int64);

/// A method that is the file's below.
macro_rules! forwarded {
    ($name:ident, $method:ident $(, $argument:ident: $type:ty)*) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> c_int {
            below!(file, $method $(, $argument)*)
        }
    };
}

forwarded!(lock, xLock, level: c_int);
forwarded!(unlock, xUnlock, level: c_int);
forwarded!(check_reserved_lock, xCheckReservedLock, is_reserved: *mut c_int);
forwarded!(file_control, xFileControl, op: c_int, argument: *mut c_void);
forwarded!(sector_size, xSectorSize);
forwarded!(device_characteristics, xDeviceCharacteristics);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::super::{Meta, MetaError};

    /// What the log and the database say to who has nothing in memory: a copy, as after `kill -9`.
    fn rows_on_disk(dir: &Path) -> i64 {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let database = Connection::open(copy.path().join("meta.sqlite")).unwrap();
        let ok: String = database.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(ok, "ok");
        database.query_row("SELECT count(*) FROM pin", [], |r| r.get(0)).unwrap()
    }

    fn add(meta: &Meta, rows: std::ops::Range<i64>) {
        meta.write(move |tx| -> Result<(), MetaError> {
            for row in rows {
                // Long ones, so that few fit into a page.
                let pattern = format!("{row:01000}");
                tx.run("INSERT INTO pin VALUES (1, ?1)", [pattern])?;
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn each_commit_is_whole_on_the_disk_when_it_is_answered_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::open(dir.path()).unwrap();
        add(&meta, 0..1);
        assert_eq!(rows_on_disk(dir.path()), 1);
        // More than is held back, and more than fits into SQLite's memory: it reads and writes its own pages anew.
        add(&meta, 1..40_000);
        assert_eq!(rows_on_disk(dir.path()), 40_000);
        for row in 40_000..40_050 {
            add(&meta, row..row + 1);
        }
        assert_eq!(rows_on_disk(dir.path()), 40_050);
    }

    #[test]
    fn what_is_taken_back_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::open(dir.path()).unwrap();
        add(&meta, 0..3);
        let failed = meta.write(|tx| -> Result<(), MetaError> {
            for row in 3..30_000 {
                tx.run("INSERT INTO pin VALUES (1, ?1)", [format!("{row:01000}")])?;
            }
            Err(MetaError::WriterDied)
        });
        assert!(failed.is_err());
        assert_eq!(rows_on_disk(dir.path()), 3);
        add(&meta, 3..4);
        assert_eq!(rows_on_disk(dir.path()), 4);
    }
}

//! What daemon and worker say to each other over a Unix stream socket: a request, and one reply, or one for each of its files.
//!
//! A frame is a header of eight bytes, the length of its body and the number of file descriptors as little-endian
//! `u32`, then the body, JSON. The descriptors travel with the header.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// Largest body of a frame: a hook folder with every file at its limit would be more, and is refused.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;
/// Most files that are looked at together.
pub const BATCH_FILES_MAX: usize = 64;
/// Most descriptors with a frame: the files of a batch. The kernel takes 253 (`SCM_MAX_FD`).
const FRAME_FDS_MAX: usize = BATCH_FILES_MAX;
const HEADER_BYTES: usize = 8;

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first request; answered by [`Reply::Ready`].
    Configure { allow_software_adapter: bool, memory_bytes_max: u64 },
    /// What the driver of an earlier worker kept of compiled shaders, whose descriptor comes along; answered by [`Reply::Warm`].
    Warm,
    /// Compile a hook, in place of the one of the same name; answered by [`Reply::Loaded`].
    Load { files: BTreeMap<String, String> },
    /// Run a hook on the files whose descriptors come along; answered by a [`Reply::Done`] or [`Reply::Failed`] for each, in their order.
    Run { hook: String },
}

/// From the worker. Every request but the first may be answered by [`Reply::Failed`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready(Hello),
    Warm,
    /// If the driver keeps more than before, that comes along as a sealed memfd.
    Loaded {
        engine: Engine,
    },
    /// Each derived file comes along as a sealed memfd, in the order of the list.
    Done(Done),
    Failed(Failure),
}

/// Which code ran a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Its shaders, on the adapter of [`Hello`].
    Gpu,
    /// The native code that the hook names as its fallback.
    Cpu,
    /// A program in a sandbox.
    Command,
    /// A program in a container.
    Container,
}

/// What a worker says of itself when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The adapter, or why there is none.
    pub adapter: Result<AdapterInfo, String>,
    /// What keeps the worker in.
    pub sandbox: Sandbox,
}

/// A graphics adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub kind: String,
    /// The driver and its version.
    pub driver: String,
    /// It is a program on the CPU, used only because the configuration allows it.
    pub software: bool,
    /// Whose compiled shaders it can use again: those of an adapter with the same key.
    pub cache_key: Option<String>,
}

/// What an adapter can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterReport {
    /// Which it is.
    pub adapter: AdapterInfo,
    /// The largest buffer.
    pub buffer_bytes_max: u64,
    /// The most of a buffer that a shader sees at once.
    pub binding_bytes_max: u64,
    /// Invocations of a workgroup.
    pub workgroup_invocations_max: u32,
    /// Memory that the invocations of a workgroup share.
    pub workgroup_bytes_max: u32,
    /// Shaders may use 16-bit floats.
    pub f16: bool,
    /// Shaders may use subgroup operations.
    pub subgroups: bool,
}

/// What keeps a worker in, in words for an operator. Every text begins with `on` or `off`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Landlock: which files, what network.
    pub landlock: String,
    /// Seccomp: which system calls are refused.
    pub seccomp: String,
    /// The most memory it can have.
    pub memory_bytes_max: u64,
}

/// The result of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) engine: Engine,
    pub(crate) note: Option<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fields: Map<String, Value>,
    pub(crate) derived: Vec<DerivedInfo>,
}

/// A derived file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DerivedInfo {
    pub(crate) suffix: String,
    pub(crate) media_type: String,
}

/// Why there is no result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

/// Whose fault it is. After the last two the worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    BadInput,
    OverLimit,
    Unreadable,
    HookBroken,
    NoEngine,
    GpuTimeout,
    DeviceLost,
}

impl FailureKind {
    /// Whether the worker ends after it.
    pub(crate) fn is_the_end(self) -> bool {
        matches!(self, Self::GpuTimeout | Self::DeviceLost)
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

/// Why a frame was not sent or received.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("the other side has closed the connection")]
    Closed,
    #[error("the time is over")]
    TimedOut,
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("a frame of {bytes} bytes; {FRAME_BYTES_MAX} are allowed")]
    TooLarge { bytes: usize },
    #[error("{found} file descriptors where {announced} were announced")]
    WrongFds { found: usize, announced: u32 },
    #[error("a frame that is not of this protocol")]
    NotOurs(#[source] serde_json::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one to us")]
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// One end of the connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
}

/// When to give up.
pub(crate) type Deadline = Option<Instant>;

/// The deadline that is `after` from now.
pub(crate) fn deadline(after: Duration) -> Deadline {
    #[expect(clippy::disallowed_methods, reason = "it bounds another process, in real time")]
    Instant::now().checked_add(after)
}

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends a message and copies of descriptors.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), FrameError> {
        let body = serde_json::to_vec(message).map_err(FrameError::NotOurs)?;
        let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_BYTES_MAX);
        let len = len.ok_or(FrameError::TooLarge { bytes: body.len() })?;
        let fd_count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&len.to_le_bytes());
        header[4..].copy_from_slice(&fd_count.to_le_bytes());

        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[_] = if raw.is_empty() { &[] } else { &rights };
        self.arm(deadline)?;
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(&header)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(io::Error::from)?;
        let mut rest = header[sent..].to_vec();
        rest.extend_from_slice(&body);
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            self.arm(deadline)?;
            match (&self.stream).write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives a message and its descriptors.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
        deadline: Deadline,
    ) -> Result<(T, Vec<OwnedFd>), FrameError> {
        let mut header = [0; HEADER_BYTES];
        let fds = self.receive_header(&mut header, deadline)?;
        let [length, fd_count] =
            [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte])));
        if fds.len() != usize::try_from(fd_count).unwrap_or(usize::MAX) {
            return Err(FrameError::WrongFds { found: fds.len(), announced: fd_count });
        }
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes });
        }
        let mut body = vec![0; bytes];
        self.fill(&mut body, deadline)?;
        Ok((serde_json::from_slice(&body).map_err(FrameError::NotOurs)?, fds))
    }

    fn receive_header(
        &self,
        header: &mut [u8; HEADER_BYTES],
        deadline: Deadline,
    ) -> Result<Vec<OwnedFd>, FrameError> {
        let mut control = cmsg_space!([RawFd; FRAME_FDS_MAX]);
        let mut fds = Vec::new();
        let read = loop {
            self.arm(deadline)?;
            let mut slices = [IoSliceMut::new(header)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.stream.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(message) => {
                    for part in message.cmsgs().map_err(io::Error::from)? {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            // SAFETY: the kernel has just made these descriptors for us; nobody else knows them.
                            #[expect(unsafe_code, reason = "descriptors arrive as numbers")]
                            fds.extend(
                                raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                            );
                        }
                    }
                    break message.bytes;
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        };
        if read == 0 {
            return Err(FrameError::Closed);
        }
        self.fill(&mut header[read..], deadline)?;
        Ok(fds)
    }

    fn fill(&self, mut rest: &mut [u8], deadline: Deadline) -> Result<(), FrameError> {
        while !rest.is_empty() {
            self.arm(deadline)?;
            match (&self.stream).read(rest) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(read) => rest = &mut rest[read..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Bounds the next system call, so that no peer can make the sum of them longer than the deadline.
    fn arm(&self, deadline: Deadline) -> Result<(), FrameError> {
        let left = match deadline {
            None => None,
            Some(at) => {
                #[expect(clippy::disallowed_methods, reason = "see `deadline`")]
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(FrameError::TimedOut);
                }
                Some(left)
            }
        };
        self.stream.set_read_timeout(left)?;
        self.stream.set_write_timeout(left)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().unwrap();
        (Wire::new(one), Wire::new(other))
    }

    fn soon() -> Deadline {
        deadline(Duration::from_millis(200))
    }

    #[test]
    fn a_frame_arrives_with_its_descriptors() {
        let (near, far) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        let long = "x".repeat(1 << 20);
        let sender = std::thread::spawn(move || {
            near.send(&Request::Run { hook: long }, &[file.as_fd(), file.as_fd()], soon())
        });
        let (request, fds) = far.receive::<Request>(soon()).unwrap();
        sender.join().unwrap().unwrap();
        assert!(matches!(request, Request::Run { hook } if hook.len() == 1 << 20));
        assert_eq!(fds.len(), 2);
        for fd in fds {
            let mut text = String::new();
            let mut file = File::from(fd);
            io::Seek::rewind(&mut file).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
    }

    #[test]
    fn frames_follow_each_other() {
        let (near, far) = pair();
        for turn in 0..3 {
            near.send(&turn, &[], None).unwrap();
        }
        for turn in 0..3 {
            assert_eq!(far.receive::<i32>(soon()).unwrap().0, turn);
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        type Expected = fn(&FrameError) -> bool;
        let cases: [(&[u8], Expected); 5] = [
            (b"", |error| matches!(error, FrameError::Closed)),
            (b"\x05\0\0", |error| matches!(error, FrameError::Closed)),
            (b"\xff\xff\xff\xff\0\0\0\0", |error| matches!(error, FrameError::TooLarge { .. })),
            (b"\x02\0\0\0\x01\0\0\0{}", |error| matches!(error, FrameError::WrongFds { .. })),
            (b"\x02\0\0\0\0\0\0\0{]", |error| matches!(error, FrameError::NotOurs(_))),
        ];
        for (bytes, expected) in cases {
            let (near, far) = UnixStream::pair().unwrap();
            (&near).write_all(bytes).unwrap();
            drop(near);
            let error = Wire::new(far).receive::<Request>(soon()).expect_err("no frame");
            assert!(expected(&error), "{bytes:?}: {error:?}");
        }
    }

    #[test]
    fn a_silent_or_slow_peer_is_left_at_the_deadline() {
        let (near, far) = pair();
        assert!(matches!(far.receive::<Request>(soon()), Err(FrameError::TimedOut)));
        // Nobody reads: the socket's buffer fills up.
        let long = "x".repeat(16 << 20);
        assert!(matches!(near.send(&long, &[], soon()), Err(FrameError::TimedOut)));
    }
}

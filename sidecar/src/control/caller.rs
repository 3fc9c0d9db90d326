//! The other end of the control socket: how a command of this program asks a running sidecar. It says what `messages` defines,
//! so that the two ends cannot disagree.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use ringlane_layout::limits::{CALL_WAIT_S_MAX, CONTROL_FDS_MAX, CONTROL_MESSAGE_BYTES_MAX, LAYOUT_VERSION};
use ringlane_layout::orders::Instrument;
use serde_json::{Value, json};

use super::messages::{Message, Number, Query, Request};
use super::session::own;
use crate::rules::Rules;

/// A connection that has said hello.
pub struct Caller {
    socket: OwnedFd,
    address: String,
    /// Number of the last request.
    sent: u64,
}

/// Why something was not done: the sidecar's refusal, or that there is none to ask.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// A refusal code of `PROTOCOL.md`, or `NO_SIDECAR`, `SIDECAR_LOST`, `NO_ANSWER`.
    pub code: String,
    /// What happened.
    pub words: String,
    /// What to do about it.
    pub remedy: String,
}

impl Failure {
    /// A failure with what to do about it.
    pub fn new(code: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: code.into(), words: words.into(), remedy: remedy.into() }
    }

    /// Whether a sidecar heard the request and said no.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(&*self.code, "NO_SIDECAR" | "SIDECAR_LOST" | "NO_ANSWER")
    }

    /// For programs, as refusals are on the control socket.
    #[must_use]
    pub fn reply(&self) -> Value {
        json!({"ok": false, "error": self.code, "message": self.words, "remedy": self.remedy})
    }

    /// What a refusal leaves one to do.
    fn refused(reply: &Value) -> Self {
        let text = |key: &str| reply[key].as_str().unwrap_or_default();
        let remedy = match text("error") {
            "NOT_PERMITTED" => {
                "run it as root or as the sidecar's own user, or have `administer = true` set for this user in [[access.rules]] (ringlane doctor says whose the socket is)"
            }
            "STOPPING" => "wait until the sidecar has started again, then repeat",
            "LAYOUT_VERSION" => "use the ringlane that the sidecar runs (ringlane doctor names both versions)",
            "QUOTA" => "close some of this user's connections, or raise its limits in [[access.rules]]",
            _ => "nothing has changed: correct the value and repeat (--help says what is meant; ringlane status names lanes)",
        };
        Self::new(text("error"), text("message"), remedy)
    }
}

impl Caller {
    /// Connects and says hello.
    pub fn connect(address: &str) -> Result<Self, Failure> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .and_then(|socket| {
                let patience = TimeVal::new(CALL_WAIT_S_MAX, 0);
                setsockopt(&socket, ReceiveTimeout, &patience)?;
                setsockopt(&socket, SendTimeout, &patience)?;
                let at =
                    address.strip_prefix('@').map_or_else(|| UnixAddr::new(address), |name| UnixAddr::new_abstract(name.as_bytes()))?;
                connect(socket.as_raw_fd(), &at).map(|()| socket)
            })
            .map_err(|error| no_sidecar(address, error))?;
        let mut caller = Self { socket, address: address.into(), sent: 0 };
        let name = "ringlane admin".to_owned();
        let hello =
            Request::Hello { layout_version: Number::Whole(LAYOUT_VERSION.into()), build: ringlane_layout::BUILD_HASH.into(), name };
        caller.ask(hello)?;
        Ok(caller)
    }

    /// Asks, and gives the answer and the descriptors that came with it.
    pub fn ask(&mut self, request: Request) -> Result<(Value, Vec<OwnedFd>), Failure> {
        self.sent += 1;
        let message = serde_json::to_vec(&Message { id: Some(self.sent), request });
        let message = message.map_err(|error| Failure::new("PROTOCOL", error.to_string(), "report this: it is a fault of ringlane"))?;
        match send(self.socket.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL) {
            // Who is turned away is told why: that is still to be read.
            Ok(_) | Err(Errno::EPIPE) => {}
            Err(error) => return Err(self.lost(error)),
        }
        let mut answer = vec![0; CONTROL_MESSAGE_BYTES_MAX];
        let mut room = nix::cmsg_space!([i32; CONTROL_FDS_MAX]);
        let mut parts = [IoSliceMut::new(&mut answer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut room), flags).map_err(|error| self.lost(error))?;
        let mut files = Vec::new();
        for ancillary in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(fds) = ancillary {
                files.extend(fds.into_iter().map(own));
            }
        }
        let length = received.bytes;
        if length == 0 {
            return Err(self.lost(Errno::ECONNRESET));
        }
        let reply: Value = serde_json::from_slice(&answer[..length])
            .map_err(|error| Failure::new("PROTOCOL", format!("the answer cannot be read: {error}"), "is this a sidecar's socket?"))?;
        if reply["ok"] == true { Ok((reply, files)) } else { Err(Failure::refused(&reply)) }
    }

    /// Asks a question of which the answer has rows; gives both.
    fn ask_rows(&mut self, query: Query) -> Result<(Value, Vec<u8>), Failure> {
        let (reply, files) = self.ask(Request::Query(query))?;
        let mut bytes = Vec::new();
        for file in files {
            let read = std::fs::File::from(file).read_to_end(&mut bytes);
            read.map_err(|error| Failure::new("MEMORY", format!("the answer cannot be read: {error}"), "repeat it"))?;
        }
        Ok((reply, bytes))
    }

    /// Instruments, halts and limits in force.
    pub fn rules(&mut self) -> Result<Rules, Failure> {
        let (reply, bytes) = self.ask_rows(Query::Rules {})?;
        Rules::read(&reply, &bytes).map_err(|words| Failure::new("PROTOCOL", words, "is this a sidecar's socket?"))
    }

    /// The number of an instrument that is given by name, or by number where no instrument has that name.
    pub fn symbol(&mut self, given: &str) -> Result<u32, Failure> {
        let (_, bytes) = self.ask_rows(Query::Instruments {})?;
        let mut name = [0; 24];
        if let Some(room) = name.get_mut(..given.len()) {
            room.copy_from_slice(given.as_bytes());
        }
        let instruments = || bytes.chunks_exact(size_of::<Instrument>()).map(bytemuck::pod_read_unaligned::<Instrument>);
        let named = instruments().find(|instrument| given.len() <= name.len() && instrument.name == name);
        let numbered = || given.parse().ok().and_then(|number: u32| instruments().find(|instrument| instrument.symbol == number));
        named.or_else(numbered).map(|instrument| instrument.symbol).ok_or_else(|| {
            let words = format!("there is no instrument {given:?}: there are {}", instruments().count());
            Failure::new("BAD_VALUE", words, "give a name or number of client.symbols; `ringlane admin instrument add` adds one")
        })
    }

    fn lost(&self, error: Errno) -> Failure {
        if error == Errno::EAGAIN {
            let words = format!("the sidecar at {} did not answer within {CALL_WAIT_S_MAX} s", self.address);
            return Failure::new("NO_ANSWER", words, "it may do so yet: look at `ringlane status` and its log before you repeat");
        }
        let words = format!("the sidecar at {} is gone: {}", self.address, error.desc());
        Failure::new("SIDECAR_LOST", words, "whether it was done is in the journal (ringlane replay); start the sidecar, look, then repeat")
    }
}

fn no_sidecar(address: &str, error: Errno) -> Failure {
    let remedy = match error {
        Errno::EACCES => "this user may not connect: add it to the socket's group, or run it as root",
        Errno::ENOENT => {
            "start the sidecar (systemctl start ringlane, or ringlane serve), or name its socket by --address or RINGLANE_SOCKET"
        }
        _ => "start the sidecar (systemctl start ringlane, or ringlane serve), or ask `ringlane doctor`",
    };
    Failure::new("NO_SIDECAR", format!("no sidecar answers at {address}: {}", error.desc()), remedy)
}

//! Bytes and descriptors over a Unix socket, one `sendmsg` or `recvmsg` at a time.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors per message: all that a keeper holds of one mount, [`crate::keeper::MAX_DESCRIPTORS`].
pub const MAX_FDS: usize = 8;

/// Sends bytes with descriptors and returns how many bytes were taken. A peer that is gone is `EPIPE`, not a signal.
///
/// # Errors
/// What the kernel says; `E2BIG` for more than [`MAX_FDS`] descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// What [`receive`] took from a socket.
#[derive(Debug)]
pub struct ReceivedBytes {
    /// How many bytes of the buffer are filled; 0 at the end of the stream.
    pub length: usize,
    /// Descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Waits for bytes and takes them, with the descriptors that belong to them.
///
/// # Errors
/// What the kernel says; `EMSGSIZE` if a packet or its descriptors did not fit (they are closed then).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<ReceivedBytes, Errno> {
    receive_with(socket, buffer, RecvFlags::empty())
}

/// Takes what is there like [`receive`], and does not wait: `EAGAIN` if there is nothing.
///
/// # Errors
/// As [`receive`].
pub fn receive_now(socket: impl AsFd, buffer: &mut [u8]) -> Result<ReceivedBytes, Errno> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

fn receive_with(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedBytes, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let fds = control
        .drain()
        .filter_map(|item| if let RecvAncillaryMessage::ScmRights(fds) = item { Some(fds) } else { None })
        .flatten()
        .collect();
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok(ReceivedBytes { length: message.bytes, fds })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn descriptors_arrive_with_their_bytes_and_close_on_exec() {
        let (here, there) = pair();
        let (mut reader, writer) = UnixStream::pair().unwrap();
        send(&here, b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let received = receive(&there, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        let [fd] = <[OwnedFd; 1]>::try_from(received.fds).unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&fd, b"through").unwrap();
        drop(fd);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_packet_that_does_not_fit_is_refused_not_cut() {
        let (here, there) = pair();
        send(&here, &[7; 100], &[]).unwrap();
        assert_eq!(receive(&there, &mut [0; 10]).unwrap_err(), Errno::MSGSIZE);
        assert_eq!(receive_now(&there, &mut [0; 10]).unwrap_err(), Errno::AGAIN);
    }
}

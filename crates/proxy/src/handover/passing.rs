//! The listening sockets, and the way of their descriptors from one process to another.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// What a descriptor is for; each goes in a message of one such byte.
const PLAIN: u8 = b'h';
const ENCRYPTED: u8 = b's';
const METRICS: u8 = b'm';
const CONTROL: u8 = b'c';
const END: u8 = b'.';

/// Everything that is listened on. It must be the very sockets that a new process goes on with: connections that the
/// system has queued on a socket are lost with it.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// One for each thread.
    pub(crate) plain: Vec<TcpListener>,
    /// One for each thread.
    pub(crate) encrypted: Vec<TcpListener>,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) control: UnixListener,
}

impl Sockets {
    /// Makes further descriptors of the same sockets.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let all = |listeners: &[TcpListener]| -> io::Result<Vec<TcpListener>> {
            listeners.iter().map(TcpListener::try_clone).collect()
        };
        Ok(Self {
            plain: all(&self.plain)?,
            encrypted: all(&self.encrypted)?,
            metrics: self.metrics.as_ref().map(TcpListener::try_clone).transpose()?,
            control: self.control.try_clone()?,
        })
    }

    fn descriptors(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        let plain = self.plain.iter().map(|listener| (PLAIN, listener.as_fd()));
        let encrypted = self.encrypted.iter().map(|listener| (ENCRYPTED, listener.as_fd()));
        let metrics = self.metrics.iter().map(|listener| (METRICS, listener.as_fd()));
        plain.chain(encrypted).chain(metrics).chain([(CONTROL, self.control.as_fd())])
    }

    /// Sends them to the process at the other end.
    ///
    /// # Errors
    /// Where the other end is gone.
    pub(crate) fn send(&self, mut link: &UnixStream) -> io::Result<()> {
        for (kind, descriptor) in self.descriptors() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor];
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(link, &[IoSlice::new(&[kind])], &mut ancillary, SendFlags::NOSIGNAL)?;
        }
        link.write_all(&[END])
    }

    /// Receives them from the process at the other end.
    ///
    /// # Errors
    /// Where the other end is gone, or what comes is not what [`Sockets::send`] sends.
    pub(crate) fn receive(link: &UnixStream) -> io::Result<Self> {
        let (mut plain, mut encrypted, mut metrics, mut control) = (Vec::new(), Vec::new(), None, None);
        loop {
            match receive_one(link)? {
                (PLAIN, Some(descriptor)) => plain.push(TcpListener::from(descriptor)),
                (ENCRYPTED, Some(descriptor)) => encrypted.push(TcpListener::from(descriptor)),
                (METRICS, Some(descriptor)) => metrics = Some(TcpListener::from(descriptor)),
                (CONTROL, Some(descriptor)) => control = Some(UnixListener::from(descriptor)),
                (END, None) => break,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        match control {
            Some(control) if !plain.is_empty() && plain.len() == encrypted.len() => {
                Ok(Self { plain, encrypted, metrics, control })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn receive_one(link: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut kind = [0];
    let received = recvmsg(link, &mut [IoSliceMut::new(&mut kind)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((kind[0], descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(folder: &std::path::Path) -> Sockets {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        Sockets {
            plain: vec![listen(), listen()],
            encrypted: vec![listen(), listen()],
            metrics: Some(listen()),
            control: UnixListener::bind(folder.join("s")).unwrap(),
        }
    }

    #[test]
    fn the_very_sockets_arrive_with_what_is_queued_on_them() {
        let folder = tempfile::tempdir().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let sent = sockets(folder.path());
        let addresses: Vec<_> = sent.plain.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let queued = std::net::TcpStream::connect(addresses[1]).unwrap();
        sent.send(&near).unwrap();
        drop(sent);
        let received = Sockets::receive(&far).unwrap();
        let found: Vec<_> = received.plain.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(found, addresses);
        let (accepted, _) = received.plain[1].accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), queued.local_addr().unwrap());
        assert!(received.metrics.is_some() && received.encrypted.len() == 2);
    }

    #[test]
    fn a_partner_that_is_gone_or_says_something_else_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(near);
        assert!(Sockets::receive(&far).is_err());
        for text in [&b"."[..], b"h.", b"zz"] {
            let (mut near, far) = UnixStream::pair().unwrap();
            near.write_all(text).unwrap();
            assert!(Sockets::receive(&far).is_err(), "{text:?}");
        }
    }
}

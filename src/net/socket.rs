//! `Socket`: an accepted socket on its way to the shard that serves it.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;
use tokio::io::Interest;

/// An accepted socket that no reactor knows yet, non-blocking.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same, registered with the reactor of its shard.
#[derive(Debug)]
pub enum RegisteredSocket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Socket {
    /// Registers it with the reactor of the current thread.
    pub fn register(self) -> io::Result<RegisteredSocket> {
        match self {
            Self::Tcp(socket) => tokio::net::TcpStream::from_std(socket).map(RegisteredSocket::Tcp),
            Self::Unix(socket) => tokio::net::UnixStream::from_std(socket).map(RegisteredSocket::Unix),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl RegisteredSocket {
    /// Waits until there may be bytes to read.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.readable().await,
            Self::Unix(socket) => socket.readable().await,
        }
    }

    /// Reads available bytes, and leaves them in the socket: `WouldBlock` if there are none, 0 at the end of the stream.
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let peek = || Ok(rustix::net::recv(self, buffer, RecvFlags::PEEK)?.0);
        match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, peek),
            Self::Unix(socket) => socket.try_io(Interest::READABLE, peek),
        }
    }

    /// Reads available bytes: `WouldBlock` if there are none, 0 at the end of the stream.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read(buffer),
            Self::Unix(socket) => socket.try_read(buffer),
        }
    }
}

impl AsFd for RegisteredSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

//! `Listener`: a listening socket, TCP or Unix.

use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::retry_on_intr;
use rustix::net::SocketAddrAny;
#[cfg(not(target_vendor = "apple"))]
use rustix::net::SocketFlags;
use tokio::net::UnixSocket;

use crate::config::listen_address::ListenAddress;
use crate::net::listen;
use crate::net::peer::Peer;
use crate::net::socket::Socket;

/// The owner and the group may connect.
const SOCKET_MODE: u32 = 0o660;

/// A listening socket, non-blocking.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// The file is removed before the listener is closed, so that it cannot be that of the next process.
    Unix(SocketFile, UnixListener),
}

/// The file of a Unix socket. Dropping this removes it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the file, nothing is left to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on this address. A Unix socket that no process listens on is replaced. Must be called in a runtime.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => listen::listen(*address)?.into_std().map(Self::Tcp),
            ListenAddress::Unix(path) => bind_unix(path),
        }
    }

    /// The address, with the port that the system has chosen.
    pub fn local_address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Self::Unix(file, _) => Ok(ListenAddress::Unix(file.0.clone())),
        }
    }

    /// Accepts a socket that waits: `WouldBlock` if there is none.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = accept_from(listener)?;
                let (socket, peer) = (TcpStream::from(socket), peer.ok_or(ErrorKind::InvalidData)?);
                // Other systems may not inherit it.
                #[cfg(not(target_os = "linux"))]
                socket.set_nodelay(true)?;
                Ok((Socket::Tcp(socket), Peer::Tcp(SocketAddr::try_from(peer)?)))
            }
            Self::Unix(_, listener) => Ok((Socket::Unix(accept_from(listener)?.0.into()), Peer::Unix)),
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(..))
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(_, listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Accepts a socket that does not block, in one system call.
#[cfg(not(target_vendor = "apple"))]
fn accept_from(listener: &impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::net::acceptfrom_with(listener, flags))?)
}

/// The same in several calls.
#[cfg(target_vendor = "apple")]
fn accept_from(listener: &impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = retry_on_intr(|| rustix::net::acceptfrom(listener))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok((socket, peer))
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Listener::Unix(file, socket.listen(listen::BACKLOG)?.into_std()?))
}

/// Removes the socket of a process that has ended. A file that is no socket is left alone, so that binding fails.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        // A process listens on it: binding fails.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // It is there, but cannot be tested: binding fails, too.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tidegate-{name}-{}.sock", std::process::id()))
    }

    fn bind(path: &Path) -> io::Result<Listener> {
        Listener::bind(&ListenAddress::Unix(path.to_owned()))
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not() {
        let path = path("stale");
        // A dropped listener of std leaves its file, as a killed process does.
        drop(UnixListener::bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(matches!(listener.accept().unwrap(), (Socket::Unix(_), Peer::Unix)));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_kept() {
        let path = path("file");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}

//! One TAP interface: the file that the twin's frames go through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tun::{AbstractDevice, AsyncDevice, Configuration, Device, Layer};

use super::error::KernelError;

/// An open TAP. The kernel interface lives as long as this value.
pub(crate) struct Tap {
    device: AsyncDevice,
    index: u32,
}

impl Tap {
    /// Creates the interface, down and without an address.
    pub(crate) fn create(name: &str) -> Result<Tap, KernelError> {
        let failed = |cause: tun::Error| KernelError::Tap {
            name: name.to_owned(),
            advice: advice(&cause),
            cause: cause.to_string(),
        };
        let mut wanted = Configuration::default();
        wanted.tun_name(name).layer(Layer::L2);
        let device = Device::new(&wanted).map_err(failed)?;
        let index = device.tun_index().map_err(failed)?.unsigned_abs();
        let device = AsyncDevice::new(device).map_err(|e| failed(e.into()))?;
        Ok(Tap { device, index })
    }

    /// The kernel's index of the interface.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Reads one frame: its length. While there is none, the task is woken when one comes.
    ///
    /// A frame longer than `buffer` is cut; the buffer must be larger than the MTU and a header.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let polled = Pin::new(&mut self.device).poll_read(cx, &mut buffer);
        polled.map_ok(|()| buffer.filled().len())
    }

    /// Gives the kernel one frame, as if it had come in on the interface. Never waits.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let device: &Device = &self.device;
        device.send(frame).map(|_| ())
    }
}

/// What helps against a refused TAP.
fn advice(error: &tun::Error) -> &'static str {
    let kind = match error {
        tun::Error::Io(e) => e.raw_os_error(),
        _ => None,
    };
    match kind {
        Some(1 | 13) => "run as root or with CAP_NET_ADMIN",
        Some(2 | 19) => {
            "load the kernel's tun module (modprobe tun) and see that /dev/net/tun exists"
        }
        Some(16) => "another process holds it: is a second Spillway running in this namespace?",
        Some(22) => "an interface of another kind has this name: rename or remove it",
        _ => "see the kernel's answer",
    }
}

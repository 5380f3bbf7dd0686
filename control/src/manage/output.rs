//! The way out of a command: pieces of bounded size, so that an answer of any length takes the
//! same memory.

use std::io;

/// Where the pieces go: a socket, a test's string.
pub trait Sink: Send {
    /// Takes one piece, waiting until there is room for it.
    ///
    /// # Errors
    /// The reader is gone, or too slow.
    fn write(&mut self, piece: &str) -> impl Future<Output = io::Result<()>> + Send;
}

impl Sink for String {
    async fn write(&mut self, piece: &str) -> io::Result<()> {
        self.push_str(piece);
        Ok(())
    }
}

/// Text gathered into pieces of about [`Output::PIECE`] octets.
#[derive(Debug)]
pub struct Output<'a, S> {
    sink: &'a mut S,
    text: String,
}

impl<'a, S: Sink> Output<'a, S> {
    /// Octets in a piece, more or less.
    pub const PIECE: usize = 16 * 1024;

    /// Output to `sink`.
    pub fn new(sink: &'a mut S) -> Output<'a, S> {
        Output {
            sink,
            text: String::new(),
        }
    }

    /// The text gathered so far, to append to.
    pub fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Appends a line and its line end.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Sends what is gathered if it makes a piece.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn flush_piece(&mut self) -> io::Result<()> {
        if self.text.len() < Self::PIECE {
            return Ok(());
        }
        self.flush().await
    }

    /// Sends an empty piece: an error if the reader is gone.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn touch(&mut self) -> io::Result<()> {
        self.sink.write("").await
    }

    /// Sends all that is gathered.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn flush(&mut self) -> io::Result<()> {
        if !self.text.is_empty() {
            self.sink.write(&self.text).await?;
            self.text.clear();
        }
        Ok(())
    }
}

//! Where a submitted body comes from: a file or standard input, read a piece at a time.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::problem::Problem;

/// The bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A body's pieces.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;

/// Where a submitted body comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Input {
    /// Opens it: its length where that is known, and its pieces.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(&self) -> Result<(Option<u64>, Pieces), Problem> {
        match self {
            Self::Stdin => Ok((None, pieces("standard input".to_owned(), tokio::io::stdin(), PIECE_BYTES))),
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
                let len = file.metadata().await.map_err(|error| unreadable(path, &error))?.len();
                let piece = usize::try_from(len).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES);
                Ok((Some(len), pieces(path.display().to_string(), file, piece)))
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let detail = format!("{} cannot be read: {error}", path.display());
    Problem::new(400, "unreadable", "The file cannot be read", detail)
}

fn pieces(name: String, reader: impl AsyncRead + Send + Unpin + 'static, size: usize) -> Pieces {
    Box::pin(stream::try_unfold((reader, name), move |(mut reader, name)| async move {
        let mut piece = BytesMut::with_capacity(size);
        // Filled up before it is passed on: the box keeps bodies in pieces of this size.
        while piece.len() < size {
            let mut rest = (&mut reader).take((size - piece.len()) as u64);
            let read = rest.read_buf(&mut piece).await;
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(unreadable(Path::new(&name), &error)),
            }
        }
        Ok((!piece.is_empty()).then(|| (piece.freeze(), (reader, name))))
    }))
}

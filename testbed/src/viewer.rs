//! A VNC viewer: RFB 3.8 with true color and raw pixels.

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::picture::Picture;

/// 32 bits for a pixel: blue, green, red and nothing, in this order.
const PIXELS: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

/// A viewer that is connected.
#[derive(Debug)]
pub struct Viewer<S> {
    stream: S,
    /// Of the screen, in pixels.
    pub size: (u16, u16),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Viewer<S> {
    /// Shakes hands with the server at the other end of this stream.
    pub async fn open(mut stream: S) -> Result<Self> {
        let mut version = [0; 12];
        stream.read_exact(&mut version).await?;
        ensure!(&version == b"RFB 003.008\n", "the server speaks {:?}", String::from_utf8_lossy(&version));
        stream.write_all(b"RFB 003.008\n").await?;
        let mut kinds = vec![0; stream.read_u8().await?.into()];
        stream.read_exact(&mut kinds).await?;
        ensure!(kinds.contains(&1), "the server wants one of the securities {kinds:?}");
        stream.write_all(&[1]).await?;
        let refused = stream.read_u32().await?;
        ensure!(refused == 0, "the server refuses: {refused}");
        // Others may watch as well.
        stream.write_all(&[1]).await?;
        let size = (stream.read_u16().await?, stream.read_u16().await?);
        stream.read_exact(&mut [0; 16]).await?;
        let mut name = vec![0; usize::try_from(stream.read_u32().await?)?];
        stream.read_exact(&mut name).await?;
        stream.write_all(&[&[0, 0, 0, 0], PIXELS.as_slice()].concat()).await?;
        stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).await?;
        Ok(Self { stream, size })
    }

    /// What the screen shows now.
    pub async fn picture(&mut self) -> Result<Picture> {
        let (width, height) = self.size;
        let all = [[0, 0, 0, 0].as_slice(), &width.to_be_bytes(), &height.to_be_bytes()].concat();
        self.stream.write_all(&[&[3, 0], all.as_slice()].concat()).await?;
        let (width, height) = (usize::from(width), usize::from(height));
        let mut pixels = vec![None; width * height];
        // A server may send it in several updates.
        while pixels.iter().any(Option::is_none) {
            for _ in 0..self.update().await? {
                let stream = &mut self.stream;
                let (x, y) = (usize::from(stream.read_u16().await?), usize::from(stream.read_u16().await?));
                let (wide, high) =
                    (usize::from(stream.read_u16().await?), usize::from(stream.read_u16().await?));
                ensure!(
                    stream.read_i32().await? == 0,
                    "the server sends an encoding that it was not offered"
                );
                let mut row = vec![0; wide * 4];
                for line in y..y + high {
                    stream.read_exact(&mut row).await?;
                    for (column, pixel) in (x..).zip(row.chunks_exact(4)) {
                        pixels[line * width + column] = Some([pixel[2], pixel[1], pixel[0]]);
                    }
                }
            }
        }
        Picture::new(width, height, pixels.into_iter().flatten().collect())
    }

    /// Moves the pointer, with these buttons pressed.
    pub async fn point(&mut self, x: u16, y: u16, buttons: u8) -> Result<()> {
        let place = [x.to_be_bytes(), y.to_be_bytes()].concat();
        Ok(self.stream.write_all(&[&[5, buttons], place.as_slice()].concat()).await?)
    }

    /// Presses a key and lets it go.
    pub async fn strike(&mut self, symbol: u32) -> Result<()> {
        for down in [1, 0] {
            self.stream.write_all(&[&[4, down, 0, 0], symbol.to_be_bytes().as_slice()].concat()).await?;
        }
        Ok(())
    }

    /// Waits for the end of the connection.
    pub async fn ended(mut self) -> Result<()> {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    /// Waits for an update; how many rectangles follow.
    async fn update(&mut self) -> Result<u16> {
        loop {
            match self.stream.read_u8().await? {
                0 => {
                    self.stream.read_u8().await?;
                    return Ok(self.stream.read_u16().await?);
                }
                // A bell.
                2 => {}
                // A clipboard.
                3 => {
                    self.stream.read_exact(&mut [0; 3]).await?;
                    let mut text = vec![0; usize::try_from(self.stream.read_u32().await?)?];
                    self.stream.read_exact(&mut text).await?;
                }
                other => bail!("the server sends a message of the type {other}"),
            }
        }
    }
}

//! What a display shows.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::Crc;
use flate2::write::ZlibEncoder;

/// A color: red, green, blue.
pub type Color = [u8; 3];

/// A picture without transparency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Row by row from the top left.
    pixels: Vec<Color>,
}

impl Picture {
    /// A picture of these rows.
    pub fn new(width: usize, height: usize, pixels: Vec<Color>) -> Result<Self> {
        ensure!(pixels.len() == width * height, "{} pixels are no {width}x{height}", pixels.len());
        Ok(Self { width, height, pixels })
    }

    /// The share of pixels that have this color, from 0 to 1.
    pub fn share(&self, color: Color) -> f64 {
        let count = self.pixels.iter().filter(|pixel| **pixel == color).count();
        count as f64 / self.pixels.len().max(1) as f64
    }

    /// Where the middle of the pixels of this color is.
    pub fn middle(&self, color: Color) -> Option<(i16, i16)> {
        let places = self.pixels.iter().enumerate().filter(|(_, pixel)| **pixel == color);
        let (mut count, mut x, mut y) = (0, 0, 0);
        for (at, _) in places {
            (count, x, y) = (count + 1, x + at % self.width, y + at / self.width);
        }
        let number = |sum: usize| i16::try_from(sum.checked_div(count)?).ok();
        Some((number(x)?, number(y)?))
    }

    /// The share of pixels of any color but black, which is what an X server shows before anybody draws.
    pub fn drawn(&self) -> f64 {
        1.0 - self.share([0, 0, 0])
    }

    /// The share of pixels that are as in another picture; 0 if that has another size.
    pub fn likeness(&self, other: &Self) -> f64 {
        if (self.width, self.height) != (other.width, other.height) {
            return 0.0;
        }
        let same = self.pixels.iter().zip(&other.pixels).filter(|(here, there)| here == there).count();
        same as f64 / self.pixels.len().max(1) as f64
    }

    /// How many different colors there are.
    pub fn colors(&self) -> usize {
        self.histogram().len()
    }

    /// The most frequent color.
    pub fn background(&self) -> Color {
        let histogram = self.histogram();
        histogram.into_iter().max_by_key(|(_, count)| *count).map_or([0, 0, 0], |(color, _)| color)
    }

    fn histogram(&self) -> HashMap<Color, usize> {
        let mut histogram = HashMap::new();
        for pixel in &self.pixels {
            *histogram.entry(*pixel).or_insert(0) += 1;
        }
        histogram
    }

    /// Writes it as PNG.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.png()?).with_context(|| format!("cannot write {}", path.display()))
    }

    fn png(&self) -> Result<Vec<u8>> {
        let mut rows = ZlibEncoder::new(Vec::new(), Compression::best());
        for row in self.pixels.chunks(self.width.max(1)) {
            // Each byte as its difference to the pixel at its left (filter 1), which packs flat areas best.
            let mut line = vec![1];
            let mut left = [0; 3];
            for pixel in row {
                line.extend(pixel.iter().zip(left).map(|(now, before)| now.wrapping_sub(before)));
                left = *pixel;
            }
            rows.write_all(&line)?;
        }
        let mut header = Vec::new();
        header.extend(u32::try_from(self.width)?.to_be_bytes());
        header.extend(u32::try_from(self.height)?.to_be_bytes());
        // Eight bits per channel, true color, the only compression and filter method, not interlaced.
        header.extend([8, 2, 0, 0, 0]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, b"IHDR", &header)?;
        chunk(&mut file, b"IDAT", &rows.finish()?)?;
        chunk(&mut file, b"IEND", &[])?;
        Ok(file)
    }
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) -> Result<()> {
    let mut sum = Crc::new();
    sum.update(kind);
    sum.update(content);
    file.extend(u32::try_from(content.len())?.to_be_bytes());
    file.extend(kind);
    file.extend(content);
    file.extend(sum.sum().to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_colors_are_counted() {
        let red = [255, 0, 0];
        let picture = Picture::new(2, 2, vec![red, red, [0, 0, 0], [1, 2, 3]]).unwrap();
        assert_eq!(picture.share(red), 0.5);
        assert_eq!(picture.drawn(), 0.75);
        assert_eq!(picture.colors(), 3);
        assert_eq!(picture.background(), red);
        let other = Picture::new(2, 2, vec![red; 4]).unwrap();
        assert_eq!((picture.likeness(&other), picture.likeness(&picture)), (0.5, 1.0));
        assert_eq!(picture.likeness(&Picture::new(4, 1, vec![red; 4]).unwrap()), 0.0);
        assert!(Picture::new(2, 2, vec![red]).is_err());
    }

    #[test]
    fn a_saved_picture_has_its_size_and_the_checksum_of_every_reader() {
        let picture = Picture::new(3, 1, vec![[1, 2, 3]; 3]).unwrap();
        let png = picture.png().unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&png[16..24], &[0, 0, 0, 3, 0, 0, 0, 1]);
        assert_eq!(&png[png.len() - 12..], b"\0\0\0\0IEND\xae\x42\x60\x82");
    }
}

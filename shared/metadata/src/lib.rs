//! What the page and the server both know of pictures beside their pixels. Of a file: the EXIF [`orientation`], the
//! [`thumbnail`], and the parts that keep them: a JPEG's segments, a PNG's and a WebP's chunks, a TIFF's directories.
//!
//! Of the EXIF block exactly that is read: one entry of the first directory, and where the thumbnail lies. Everything
//! else in it may be damaged, missing or hostile, and neither costs the orientation nor time: no other directory is
//! followed, nothing is allocated, and the work is at most one walk over the file's chunks.

mod containers;
mod region;
mod tiff;

pub use containers::{
    Segment, jpeg_blocks, jpeg_segments, orientation, png_chunks, webp_chunks, webp_flags,
};
pub use region::Region;
pub use tiff::{Entry, Tiff, orientation_of_block, thumbnail};

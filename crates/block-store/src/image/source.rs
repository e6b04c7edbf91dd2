//! An image that is read for an import.
//!
//! What must always hold: reads come from many threads at once; what they return is only to be
//! kept if [`ImageSource::check_unchanged`] is satisfied after the last of them.

use std::{fs::File, ops::Range, path::Path};

use block_device::ByteLength;

use super::{
    BackingPolicy, ImageError, ImageFormat,
    directory::Directory,
    mapped::{MappedImage, check_size},
    qcow2, raw,
    vhd::Vhd,
    vmdk,
    witness::Witness,
};

/// An image that is read for an import.
#[derive(Debug)]
pub struct ImageSource {
    format: ImageFormat,
    size: u64,
    content: Content,
    /// Every file that is read and that the content does not hold itself, the given one first.
    files: Vec<Witness>,
}

#[derive(Debug)]
enum Content {
    Raw,
    Mapped(MappedImage),
    Vhd(Vhd),
}

impl ImageSource {
    /// Takes an image in an open file, which must be a regular one.
    ///
    /// `format` is what the image is read as, whatever its bytes look like. Without one the first
    /// bytes decide; that is meant for a file a person gave on the command line, who is then to be
    /// told [`ImageSource::format`]. `path` is where the file was opened; it is only used to find
    /// the directory for [`BackingPolicy::Follow`].
    pub fn open(
        file: File,
        path: Option<&Path>,
        format: Option<ImageFormat>,
        backing: BackingPolicy,
    ) -> Result<Self, ImageError> {
        let witness = Witness::of(file)?;
        let format = match format {
            Some(format) => format,
            None => ImageFormat::probe(witness.file())?,
        };
        let open = match format {
            ImageFormat::Raw => return Self::raw(witness),
            ImageFormat::Qcow2 => qcow2::open,
            ImageFormat::Vmdk => vmdk::open,
            ImageFormat::Vhd => return Self::vhd(witness),
        };
        let directory = match (backing, path) {
            (BackingPolicy::Follow, Some(path)) => Some(Directory::of(path)?),
            (BackingPolicy::Follow, None) | (BackingPolicy::Refuse, _) => None,
        };
        let (image, files) = open(witness, directory.as_ref())?;
        Ok(Self { format, size: image.size(), content: Content::Mapped(image), files })
    }

    /// The size of the disk in it.
    pub fn size(&self) -> ByteLength {
        ByteLength::new(self.size)
    }

    /// The format it is read as.
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// Fills `buffer` from `offset`, which must end within the disk.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let end = offset.checked_add(ByteLength::of(buffer).get());
        if end.is_none_or(|end| end > self.size) {
            return Err(ImageError::refused("a read went past the end of its disk"));
        }
        match &self.content {
            Content::Raw => raw::read_at(self.file(), buffer, offset),
            Content::Mapped(image) => image.read_at(buffer, offset),
            Content::Vhd(image) => image.read_at(buffer, offset),
        }
    }

    /// The next stretch from `from` on that may hold something else than zeros; what lies before
    /// and behind it up to the next one is zeros. A long stretch may come in several.
    pub fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, ImageError> {
        if from >= self.size {
            return Ok(None);
        }
        match &self.content {
            Content::Raw => raw::next_data(self.file(), from, self.size),
            Content::Mapped(image) => image.next_data(from),
            Content::Vhd(image) => image.next_data(from),
        }
    }

    /// Fails with [`ImageError::Changed`] if one of the files was written to, cut or replaced in
    /// place since it was opened.
    pub fn check_unchanged(&self) -> Result<(), ImageError> {
        if let Content::Vhd(image) = &self.content {
            image.check_unchanged()?;
        }
        self.files.iter().try_for_each(Witness::check_unchanged)
    }

    fn raw(witness: Witness) -> Result<Self, ImageError> {
        let size = raw::size_of(&witness)?;
        check_size(size)?;
        Ok(Self { format: ImageFormat::Raw, size, content: Content::Raw, files: vec![witness] })
    }

    fn vhd(witness: Witness) -> Result<Self, ImageError> {
        let image = Vhd::open(witness)?;
        let (format, size) = (ImageFormat::Vhd, image.size());
        Ok(Self { format, size, content: Content::Vhd(image), files: Vec::new() })
    }

    fn file(&self) -> &File {
        self.files.first().expect("the given file").file()
    }
}

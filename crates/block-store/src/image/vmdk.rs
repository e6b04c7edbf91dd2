//! A VMDK image: a descriptor that names flat files.
//!
//! What must always hold: the flat files are opened by us, beneath the directory of the descriptor
//! and only when that was asked for; each is at least as long as the descriptor says; there are at
//! most [`MOST_FILES`] of them. Sparse and stream-optimised images, delta links and extents without
//! access are refused by imago, and the refusal is passed on.

use std::{io, path::Path};

use imago::{
    FormatAccess, FormatDriverBuilder, StorageOpenOptions, format::gate::ImplicitOpenGate,
    vmdk::Vmdk,
};

use super::{
    ImageError, ImageFormat,
    directory::Directory,
    format::VMDK_SPARSE_MAGIC,
    mapped::{MappedImage, Stored, check_size, contained, stored},
    raw::read_up_to,
    witness::Witness,
};

/// The most flat files of one image.
const MOST_FILES: usize = 64;
/// The longest descriptor, as imago has it.
const LONGEST_DESCRIPTOR: u64 = 2 << 20;

/// Opens the image; `directory` is where its flat files may come from, if they may. The files
/// that were read come back, the descriptor first.
pub(super) fn open(
    witness: Witness,
    directory: Option<&Directory>,
) -> Result<(MappedImage, Vec<Witness>), ImageError> {
    check_descriptor(&witness)?;
    let file = stored(&witness)?;
    let mut extents = Extents { directory, files: vec![witness], refusal: None };
    let image = contained(|| {
        let builder = Vmdk::<Stored>::builder(file);
        builder.open(Gate(&mut extents)).map_err(|error| {
            // Our own refusal says more than the library's text around it.
            extents.refusal.take().unwrap_or_else(|| ImageError::of_library(error))
        })
    })?;
    let image = MappedImage::new(FormatAccess::new(image));
    check_size(image.size())?;
    image.check_all()?;
    Ok((image, extents.files))
}

/// Refuses what is no descriptor before it is read as one.
fn check_descriptor(witness: &Witness) -> Result<(), ImageError> {
    let mut start = [0; 4];
    let read = read_up_to(witness.file(), &mut start, 0)?;
    if start.starts_with(VMDK_SPARSE_MAGIC) {
        return Err(ImageError::unsupported("a sparse or stream-optimised VMDK"));
    }
    if read < start.len() || witness.length() > LONGEST_DESCRIPTOR {
        return Err(ImageError::NotThatFormat { format: ImageFormat::Vmdk });
    }
    Ok(())
}

/// The flat files of an image, as they are opened.
struct Extents<'a> {
    directory: Option<&'a Directory>,
    files: Vec<Witness>,
    refusal: Option<ImageError>,
}

/// Where imago asks for a file to be opened.
struct Gate<'a, 'b>(&'a mut Extents<'b>);

impl Extents<'_> {
    fn open(&mut self, name: &str) -> Result<Stored, ImageError> {
        let refuse =
            |reason: &str| ImageError::Backing { name: name.into(), reason: reason.into() };
        let Some(directory) = self.directory else {
            return Err(refuse("flat files are followed only when that is asked for"));
        };
        if self.files.len() > MOST_FILES {
            return Err(refuse(&format!("the image has more than {MOST_FILES} files")));
        }
        let (witness, _) = directory.open(Path::new(""), name)?;
        let file = stored(&witness)?;
        self.files.push(witness);
        Ok(file)
    }
}

impl ImplicitOpenGate<Stored> for Gate<'_, '_> {
    fn open_format<F: FormatDriverBuilder<Stored>>(
        &mut self,
        _builder: F,
    ) -> io::Result<FormatAccess<Stored>> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "images based on others are refused"))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<Stored> {
        // `stored` gave the descriptor the name `./image`, so the name comes back unchanged.
        let asked = options.get_filename().unwrap_or_else(|| Path::new(""));
        let name = asked.strip_prefix("./").unwrap_or(asked);
        let opened = self.0.open(&name.to_string_lossy());
        opened.map_err(|error| {
            let text = error.to_string();
            self.0.refusal = Some(error);
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })
    }
}

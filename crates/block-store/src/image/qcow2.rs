//! A qcow2 image, with the images it is based on when that is asked for.
//!
//! What must always hold: imago sees a file only after `qcow2_header` has checked it, gets every
//! file as an open handle, and is denied to open any by itself. The format of a backing file is
//! the one its image names, never a guess. A chain is at most [`DEEPEST_CHAIN`] long and has no file
//! twice.

use std::path::{Path, PathBuf};

use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, qcow2::Qcow2, raw::Raw};

use super::{
    ImageError, ImageFormat,
    directory::Directory,
    mapped::{MappedImage, Opened, Stored, contained, opened, stored},
    qcow2_header::{BackingName, Header},
    witness::Witness,
};

/// The most images in a chain.
const DEEPEST_CHAIN: usize = 64;

/// Opens the image; `directory` is where its backing files may come from, if they may. The files
/// that were read come back in the order of the chain, the given one first.
pub(super) fn open(
    witness: Witness,
    directory: Option<&Directory>,
) -> Result<(MappedImage, Vec<Witness>), ImageError> {
    let mut chain = Chain { directory, files: Vec::new() };
    let image = contained(|| chain.open_qcow2(witness, Path::new("")))?;
    Ok((MappedImage::new(image), chain.files))
}

struct Chain<'a> {
    directory: Option<&'a Directory>,
    files: Vec<Witness>,
}

impl Chain<'_> {
    /// Opens an image that lies in the folder `within` of the directory.
    fn open_qcow2(&mut self, witness: Witness, within: &Path) -> Result<Opened, ImageError> {
        let header = Header::check(witness.file(), witness.length())?;
        let file = stored(&witness)?;
        self.files.push(witness);
        let backing = header.backing.map(|name| self.open_backing(&name, within)).transpose()?;
        let builder = Qcow2::<Stored>::builder(file).backing(backing).data_file(None);
        let image = opened(builder.open(DenyImplicitOpenGate::default()))?;
        Ok(FormatAccess::new(image))
    }

    fn open_backing(&mut self, named: &BackingName, within: &Path) -> Result<Opened, ImageError> {
        let refuse = |reason: &str| {
            Err(ImageError::Backing { name: named.name.clone(), reason: reason.into() })
        };
        let Some(directory) = self.directory else {
            return refuse("backing files are followed only when that is asked for");
        };
        let Some(format) = &named.format else {
            return refuse("the image does not say its format; set it with qemu-img rebase -u -F");
        };
        if self.files.len() >= DEEPEST_CHAIN {
            return refuse(&format!("the chain has more than {DEEPEST_CHAIN} images"));
        }
        let (witness, place) = directory.open(within, &named.name)?;
        if self.files.iter().any(|file| file.identity() == witness.identity()) {
            return refuse("the chain of images leads back to it");
        }
        match format.parse() {
            Ok(ImageFormat::Qcow2) => self.open_qcow2(witness, &folder_of(&place)),
            Ok(ImageFormat::Raw) => self.open_raw(witness),
            _ => refuse("only raw and qcow2 images can be based on"),
        }
    }

    /// A raw file may have any length here: an image on it says how much of it counts.
    fn open_raw(&mut self, witness: Witness) -> Result<Opened, ImageError> {
        let file = stored(&witness)?;
        self.files.push(witness);
        let image = opened(Raw::builder(file).open(DenyImplicitOpenGate::default()))?;
        Ok(FormatAccess::new(image))
    }
}

fn folder_of(place: &Path) -> PathBuf {
    place.parent().map(Path::to_path_buf).unwrap_or_default()
}

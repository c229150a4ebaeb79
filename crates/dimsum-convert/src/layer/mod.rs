//! One layer: read it, give its content places, pack it.

mod bundle;
mod device;
mod meta;
mod pack;
mod read;

pub(crate) use self::device::Device;
pub(crate) use self::pack::{Packed, Parts, write_pack};
pub(crate) use self::read::{Expected, ReadLayer, Reader, read_directory, read_image_layer};

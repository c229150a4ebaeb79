//! One layer: read it, give its content places, compress new content, and write the pack or prove that it
//! exists.

mod bundle;
mod chunks;
mod device;
mod meta;
mod pack;
mod prove;
mod read;

pub(crate) use self::bundle::Cutter;
pub(crate) use self::chunks::{Bundling, Chunks, Maps, bundle};
pub(crate) use self::device::Device;
pub(crate) use self::pack::{Common, Packed, Plan, write_pack};
pub(crate) use self::prove::verify_pack;
pub(crate) use self::read::{Expected, ReadLayer, Reader, Taken, read_directory, read_image_layer};

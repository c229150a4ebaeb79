//! One layer: read it, give its content places, compress new content, and write the pack or prove that it
//! exists.

mod bundle;
mod chunks;
mod device;
mod meta;
mod pack;
mod prove;
mod read;

pub(crate) use self::bundle::BundleCutter;
pub(crate) use self::chunks::{Bundling, LayerChunks, Maps, bundle};
pub(crate) use self::device::LayerDevice;
pub(crate) use self::pack::{PackContent, PackContext, Packed, write_pack};
pub(crate) use self::prove::verify_pack;
pub(crate) use self::read::{Expected, LayerReader, ReadLayer, SpooledContent, read_directory, read_image_layer};

//! What an image would cost, found out without touching anything but a scratch directory: `dimsum estimate`.
//!
//! ```text
//! image ─→ converted into a layout in the scratch directory, ─┬─→ presence: what target repository and node have already
//!          in rehearsal of the target where it is to share      │
//!                                                             ├─→ trial: one lazy run from an empty store ─→ bytes, requests, time here
//!                                                             └─→ model: bytes, requests, time here + a link ─→ time to ready
//! ```

pub mod model;
pub mod presence;
pub mod rehearsal;
pub mod report;
pub mod scratch;
pub mod trial;

//! Taking over the mounts that the keeper held while their server was gone.
//!
//! Readers are waiting, so this comes before anything else. Each image is opened again from the record that the keeper
//! kept in its memory. So the digest is the one the client gave, whatever happened to the store meanwhile. One that
//! cannot be opened is not dropped: it answers `EIO`, and its driver tries again when somebody reads.

use std::sync::{Arc, Weak};

use dimsum_events::{Event, EventKind, EventSink};
use dimsum_mount::ImageOpener;
use dimsum_mount::keeper::Held;
use parking_lot::Mutex;
use tracing::{debug, debug_span};

use super::Server;
use super::hub::MountReporter;
use super::mounts::MountEntry;
use crate::Error;
use crate::error::with_causes;
use crate::record::MountRecord;

/// Images that are opened at the same time: each may wait for disk or network.
const MAX_OPENING: usize = 8;

/// Takes over all mounts. Returns when each is served, by its image or by `EIO`.
pub(super) fn adopt_held(server: &Arc<Server>) -> Result<(), Error> {
    let held = Mutex::new(server.hub.link.list()?);
    let count = held.lock().len();
    if count == 0 {
        return Ok(());
    }
    std::thread::scope(|scope| {
        for _ in 0..count.min(MAX_OPENING) {
            scope.spawn(|| {
                loop {
                    let next = held.lock().pop();
                    let Some(mount) = next else {
                        break;
                    };
                    let id = mount.id;
                    let span = debug_span!("adopt", mount = id);
                    if let Err(error) = span.in_scope(|| adopt(server, mount)) {
                        server.hub.log.line(format_args!("mount {id} cannot be taken over: {}", with_causes(&error)));
                        // Letting it go makes pending reads fail; keeping it would block them for ever.
                        drop(server.hub.link.closed(id));
                    }
                }
            });
        }
    });
    server.hub.log.event(Event::new(EventKind::ServerTookOver).reason(format_args!("{count} mounts")));
    Ok(())
}

fn adopt(server: &Arc<Server>, held: Held) -> Result<(), Error> {
    let record = MountRecord::parse(&held.record)?;
    debug!(image = %record.image, "takes over a mount");
    let reporter = server.reporter(held.id, &record);
    let observer = Arc::<MountReporter>::clone(&reporter);
    let served = server.driver(record.driver)?.adopt(held.mount, opener(server, record.clone()), observer)?;
    server.start_serving(MountEntry::new(record, served, reporter))
}

/// Returns what opens the image of a mount again. It is called on threads of its own, see [`super::hub`].
fn opener(server: &Arc<Server>, record: MountRecord) -> ImageOpener {
    let server: Weak<Server> = Arc::downgrade(server);
    Arc::new(move || match server.upgrade() {
        Some(server) => server.engine.reopen(record.image, &record.origins).map_err(|error| with_causes(&error)),
        None => Err("the server is ending".to_owned()),
    })
}

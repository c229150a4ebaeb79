//! Messages between the processes of a node.

use std::fmt::Debug;

use dimsum_mount::keeper::packet_again;
use dimsum_node::MountRequest;
use dimsum_node::wire::{request_again, response_again};

/// A packet between keeper and server: no panic; an accepted one is stable once it was written by us.
pub fn keeper_packet(data: &[u8]) {
    if let Some(ours) = packet_again(data) {
        assert_eq!(packet_again(&ours).as_ref(), Some(&ours), "a packet of ours is read back as it is");
    }
}

/// A request of a client, or a record that a keeper kept: no panic; an accepted one says the same when we write it.
pub fn wire_request(data: &[u8]) {
    stable(data, request_again);
    if let Ok(record) = serde_json::from_slice::<MountRequest>(data) {
        let ours = serde_json::to_vec(&record).expect("a record is text and numbers");
        assert_eq!(serde_json::from_slice::<MountRequest>(&ours).expect("our own record parses"), record);
    }
}

/// An answer of a server: no panic; an accepted one says the same when we write it.
pub fn wire_response(data: &[u8]) {
    stable(data, response_again);
}

/// Reads a message; returns it and the bytes that it is written as.
type Reread<T> = fn(&[u8]) -> Option<(T, Vec<u8>)>;

fn stable<T: PartialEq + Debug>(data: &[u8], again: Reread<T>) {
    if let Some((message, ours)) = again(data) {
        let (same, bytes) = again(&ours).expect("our own message parses");
        assert_eq!((&same, &bytes), (&message, &ours));
    }
}

//! The request decoder: what the kernel sends is understood, anything else is refused without a panic.

use dimsum_fuse::{Class, DecodeError, MAX_READ, Opcode, Operation, Request, Whence};
use proptest::prelude::*;

/// Makes a request as the kernel lays it out.
fn request(opcode: u32, extensions: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(40 + body.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&opcode.to_ne_bytes());
    bytes.extend_from_slice(&7_u64.to_ne_bytes());
    bytes.extend_from_slice(&1_u64.to_ne_bytes());
    for id in [1000_u32, 100, 4242] {
        bytes.extend_from_slice(&id.to_ne_bytes());
    }
    bytes.extend_from_slice(&extensions.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn a_lookup_has_a_name() {
    let bytes = request(1, 0, b"name\0");
    let request = Request::decode(&bytes).unwrap();
    assert_eq!((request.header.unique, request.header.node), (7, 1));
    assert_eq!((request.header.uid, request.header.gid, request.header.pid), (1000, 100, 4242));
    assert!(!request.header.is_resent());
    assert!(matches!(request.operation, Operation::Lookup { name: b"name" }));
}

#[test]
fn names_that_are_none_are_refused() {
    for bad in [&b""[..], b"\0", b"no end", b"a/b\0", b"a\0b\0", b"a\0\0"] {
        let error = Request::decode(&request(1, 0, bad)).map(|_| ()).unwrap_err();
        assert!(matches!(error, DecodeError::BadName { unique: 7, opcode: 1 }), "{error:?}");
    }
    let mut long = vec![b'x'; 255];
    long.push(0);
    assert!(Request::decode(&request(1, 0, &long)).is_ok());
    long.insert(0, b'x');
    let error = Request::decode(&request(1, 0, &long)).map(|_| ()).unwrap_err();
    assert!(matches!(error, DecodeError::NameTooLong { length: 256, .. }));
    assert_eq!(error.errno(), dimsum_fuse::Errno::NAMETOOLONG);
    // An xattr name may have a slash.
    let mut xattr = words(&[10, 0]);
    xattr.extend_from_slice(b"user.a/b\0");
    let bytes = request(22, 0, &xattr);
    assert!(matches!(Request::decode(&bytes).unwrap().operation, Operation::GetXattr { name: b"user.a/b", size: 10 }));
}

#[test]
fn extensions_behind_the_arguments_are_left_out() {
    let bytes = request(1, 1, b"name\0EXTENSIO");
    assert!(matches!(Request::decode(&bytes).unwrap().operation, Operation::Lookup { name: b"name" }));
    assert!(Request::decode(&request(1, 2, b"name\0EXTENSIO")).is_err());
}

#[test]
fn reads_are_bounded() {
    let read = |size| request(15, 0, &words(&[9, 0, 4096, 0, size, 0, 0, 0, 0, 0]));
    let bytes = read(MAX_READ);
    assert!(matches!(
        Request::decode(&bytes).unwrap().operation,
        Operation::Read { handle: 9, offset: 4096, size: MAX_READ }
    ));
    let error = Request::decode(&read(MAX_READ + 1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { unique: 7, .. }));
}

#[test]
fn a_batch_of_forgets_is_bounded_by_its_bytes() {
    let two = words(&[2, 0, 5, 0, 1, 0, 6, 0, 3, 0]);
    let bytes = request(42, 0, &two);
    let Operation::BatchForget(list) = Request::decode(&bytes).unwrap().operation else {
        panic!("not a batch");
    };
    assert_eq!(list.iter().collect::<Vec<_>>(), [(5, 1), (6, 3)]);
    for count in [3, u32::MAX] {
        let body = words(&[count, 0, 5, 0, 1, 0, 6, 0, 3, 0]);
        assert!(Request::decode(&request(42, 0, &body)).is_err(), "{count}");
    }
}

#[test]
fn init_flags_are_64_bits_where_the_kernel_says_so() {
    let extended = 1 << 30;
    let bytes = request(26, 0, &words(&[7, 45, 131_072, extended, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let Operation::Init(offer) = Request::decode(&bytes).unwrap().operation else {
        panic!("not INIT");
    };
    assert_eq!(offer.flags, 0x80 << 32 | u64::from(extended));
    let bytes = request(26, 0, &words(&[7, 31, 131_072, 1]));
    assert!(Request::decode(&bytes).is_ok(), "INIT of Linux 5.4");
    assert!(Request::decode(&request(26, 0, &words(&[7, 36, 131_072, extended]))).is_err());
}

#[test]
fn only_data_and_holes_are_sought() {
    let seek = |whence| request(46, 0, &words(&[0, 0, 512, 0, whence, 0]));
    for (number, expected) in [(3, Whence::Data), (4, Whence::Hole)] {
        let bytes = seek(number);
        let Operation::Lseek { offset: 512, whence, .. } = Request::decode(&bytes).unwrap().operation else {
            panic!("not LSEEK");
        };
        assert_eq!(whence, expected);
    }
    assert!(matches!(Request::decode(&seek(0)).map(|_| ()), Err(DecodeError::BadArgument { value: 0, .. })));
}

#[test]
fn every_operation_of_the_table_has_its_class() {
    // Long enough for the arguments of any operation, with a name of one byte at its end.
    let mut body = vec![0; 62];
    body.extend_from_slice(b"n\0");
    for &opcode in Opcode::ALL {
        let bytes = request(opcode.number(), 0, &body);
        let operation = Request::decode(&bytes).map(|request| request.operation);
        match opcode.class() {
            Class::Changes => assert!(matches!(operation, Ok(Operation::Change { opcode: is }) if is == opcode)),
            Class::NotOffered => assert!(matches!(operation, Ok(Operation::NotOffered { .. })), "{opcode:?}"),
            Class::Served => assert!(!matches!(operation, Ok(Operation::NotOffered { .. })), "{opcode:?}"),
        }
    }
    for unknown in [0, 7, 19, 53, 4096, u32::MAX] {
        let bytes = request(unknown, 0, &[]);
        assert!(matches!(
            Request::decode(&bytes).unwrap().operation,
            Operation::NotOffered { opcode } if opcode == unknown
        ));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn arbitrary_arguments_never_panic(
        opcode in 0_u32..60,
        extensions in prop_oneof![Just(0_u16), any::<u16>()],
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        exercise(&request(opcode, extensions, &body));
    }

    #[test]
    fn every_cut_request_is_refused_or_whole(cut in 0_usize..96, opcode in 0_u32..60) {
        let whole = request(opcode, 0, &[1; 56]);
        let cut = &whole[..cut.min(whole.len())];
        if cut.len() < whole.len() {
            prop_assert!(Request::decode(cut).is_err());
        }
    }
}

/// Decodes, walks lists, and checks what the decoder promises of its result.
fn exercise(bytes: &[u8]) {
    match Request::decode(bytes) {
        Ok(request) => match request.operation {
            Operation::Lookup { name } => {
                assert!((1..=255).contains(&name.len()) && !name.contains(&0) && !name.contains(&b'/'));
            }
            Operation::GetXattr { name, .. } => assert!((1..=255).contains(&name.len()) && !name.contains(&0)),
            Operation::Read { size, .. } | Operation::ReadDir { size, .. } | Operation::ReadDirPlus { size, .. } => {
                assert!(size <= MAX_READ);
            }
            Operation::BatchForget(list) => assert!(list.iter().count() <= bytes.len() / 16),
            _ => {}
        },
        Err(error) => assert_eq!(error.unique().is_none(), bytes.len() < 40),
    }
}

//! The only unsafe code of Dimsum: system calls that no safe wrapper covers.

//! Reading and writing at offsets without a panic: what lies outside is `None` or left alone.

/// The `N` octets at `at`.
#[inline(always)]
pub(crate) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// The `N` octets at `at`, to be rewritten.
#[inline(always)]
pub(crate) fn chunk_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// The big-endian 16 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be16<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    const { assert!(AT + 2 <= N) };
    u16::from_be_bytes([header[AT], header[AT + 1]])
}

/// The big-endian 32 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N) };
    u32::from_be_bytes([header[AT], header[AT + 1], header[AT + 2], header[AT + 3]])
}

/// Writes big-endian 16 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put16<const AT: usize, const N: usize>(header: &mut [u8; N], value: u16) {
    const { assert!(AT + 2 <= N) };
    let [a, b] = value.to_be_bytes();
    header[AT] = a;
    header[AT + 1] = b;
}

/// Writes big-endian 32 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put32<const AT: usize, const N: usize>(header: &mut [u8; N], value: u32) {
    const { assert!(AT + 4 <= N) };
    let [a, b, c, d] = value.to_be_bytes();
    header[AT] = a;
    header[AT + 1] = b;
    header[AT + 2] = c;
    header[AT + 3] = d;
}

/// The big-endian 64 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be64<const AT: usize, const N: usize>(header: &[u8; N]) -> u64 {
    const { assert!(AT + 8 <= N) };
    u64::from_be_bytes([
        header[AT],
        header[AT + 1],
        header[AT + 2],
        header[AT + 3],
        header[AT + 4],
        header[AT + 5],
        header[AT + 6],
        header[AT + 7],
    ])
}

/// The 32 bits at `AT` of a header whose size is known, as this CPU reads them.
#[inline(always)]
pub(crate) fn ne32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N) };
    u32::from_ne_bytes([header[AT], header[AT + 1], header[AT + 2], header[AT + 3]])
}

/// Writes big-endian 64 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put64<const AT: usize, const N: usize>(header: &mut [u8; N], value: u64) {
    const { assert!(AT + 8 <= N) };
    if let Some(octets) = header[AT..].first_chunk_mut() {
        *octets = value.to_be_bytes();
    }
}

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

/// The `K` octets at `AT` of a header whose size is known: one load, whatever is done with them.
#[inline(always)]
fn octets<const AT: usize, const K: usize, const N: usize>(header: &[u8; N]) -> [u8; K] {
    const { assert!(AT + K <= N) };
    header[AT..].first_chunk().copied().unwrap_or([0; K])
}

/// Writes the `K` octets at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put<const AT: usize, const K: usize, const N: usize>(
    header: &mut [u8; N],
    octets: [u8; K],
) {
    const { assert!(AT + K <= N) };
    if let Some(place) = header[AT..].first_chunk_mut() {
        *place = octets;
    }
}

/// The big-endian 16 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be16<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_be_bytes(octets::<AT, 2, N>(header))
}

/// The big-endian 32 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_be_bytes(octets::<AT, 4, N>(header))
}

/// The big-endian 64 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn be64<const AT: usize, const N: usize>(header: &[u8; N]) -> u64 {
    u64::from_be_bytes(octets::<AT, 8, N>(header))
}

/// The 16 bits at `AT` of a header whose size is known, as this CPU reads them.
#[inline(always)]
pub(crate) fn ne16<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_ne_bytes(octets::<AT, 2, N>(header))
}

/// The 32 bits at `AT` of a header whose size is known, as this CPU reads them.
#[inline(always)]
pub(crate) fn ne32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_ne_bytes(octets::<AT, 4, N>(header))
}

/// Writes 16 bits at `AT` of a header whose size is known, as this CPU writes them.
#[inline(always)]
pub(crate) fn put_ne16<const AT: usize, const N: usize>(header: &mut [u8; N], value: u16) {
    put::<AT, 2, N>(header, value.to_ne_bytes());
}

/// Writes big-endian 16 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put16<const AT: usize, const N: usize>(header: &mut [u8; N], value: u16) {
    put::<AT, 2, N>(header, value.to_be_bytes());
}

/// Writes big-endian 32 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put32<const AT: usize, const N: usize>(header: &mut [u8; N], value: u32) {
    put::<AT, 4, N>(header, value.to_be_bytes());
}

/// Writes big-endian 64 bits at `AT` of a header whose size is known.
#[inline(always)]
pub(crate) fn put64<const AT: usize, const N: usize>(header: &mut [u8; N], value: u64) {
    put::<AT, 8, N>(header, value.to_be_bytes());
}

//! Memory on cache-line borders, seen as bytes or numbers.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

/// A cache line.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory that begins on a cache line and only ever grows.
#[derive(Clone, Default)]
pub struct Buffer(Vec<Line>);

impl Buffer {
    /// Room for `bytes`, all zero.
    pub fn new(bytes: usize) -> Self {
        Self(vec![Line::zeroed(); bytes.div_ceil(64)])
    }

    /// At least `bytes`, whatever they hold.
    pub fn reserve(&mut self, bytes: usize) -> &mut [u8] {
        let lines = bytes.div_ceil(64);
        if lines > self.0.len() {
            self.0.resize(lines, Line::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..bytes]
    }

    /// The first `len` numbers.
    pub fn values<T: AnyBitPattern>(&self, len: usize) -> &[T] {
        &bytemuck::cast_slice(&self.0[..(len * size_of::<T>()).div_ceil(64)])[..len]
    }

    /// The first `len` numbers.
    pub fn values_mut<T: AnyBitPattern + NoUninit>(&mut self, len: usize) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.0[..(len * size_of::<T>()).div_ceil(64)])[..len]
    }
}

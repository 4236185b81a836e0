//! Numbered places for rows, in chunks: growing copies nothing, and chunks that are empty are given back.

use std::collections::BTreeSet;
use std::marker::PhantomData;

/// Places in a chunk.
const CHUNK: u32 = 4_096;

/// Rows by slot. `K` is the type of the slots.
pub(crate) struct Slab<K, T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with a free place. The lowest is filled first, so that the highest empty out.
    open: BTreeSet<u32>,
    /// An empty chunk that is kept: a row that comes and goes over a chunk's edge allocates nothing.
    spare: Option<u32>,
    len: u64,
    slots: PhantomData<K>,
}

struct Chunk<T> {
    rows: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Chunk<T> {
    const EMPTY: Self = Self {
        rows: Vec::new(),
        free: Vec::new(),
    };

    fn put(&mut self, row: T) -> u32 {
        if let Some(place) = self.free.pop()
            && let Some(free) = self.rows.get_mut(usize::from(place))
        {
            *free = Some(row);
            return u32::from(place);
        }
        if self.rows.capacity() == 0 {
            self.rows.reserve_exact(CHUNK as usize);
        }
        self.rows.push(Some(row));
        u32::try_from(self.rows.len()).unwrap_or(CHUNK) - 1
    }

    fn is_full(&self) -> bool {
        self.free.is_empty() && self.rows.len() == CHUNK as usize
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.rows.len()
    }
}

impl<K: Copy + From<u32> + Into<u32>, T> Slab<K, T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            open: BTreeSet::new(),
            spare: None,
            len: 0,
            slots: PhantomData,
        }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn get(&self, slot: K) -> Option<&T> {
        let slot: u32 = slot.into();
        self.chunks
            .get((slot / CHUNK) as usize)?
            .rows
            .get((slot % CHUNK) as usize)?
            .as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: K) -> Option<&mut T> {
        let slot: u32 = slot.into();
        self.chunks
            .get_mut((slot / CHUNK) as usize)?
            .rows
            .get_mut((slot % CHUNK) as usize)?
            .as_mut()
    }

    pub(crate) fn insert(&mut self, row: T) -> K {
        let number = self.open_chunk();
        let Some(chunk) = self.chunks.get_mut(number as usize) else {
            unreachable!("an open chunk is there")
        };
        let place = chunk.put(row);
        self.spare.take_if(|spare| *spare == number);
        if chunk.is_full() {
            self.open.remove(&number);
        }
        self.len += 1;
        K::from(number * CHUNK + place)
    }

    pub(crate) fn remove(&mut self, slot: K) -> Option<T> {
        let slot: u32 = slot.into();
        let number = slot / CHUNK;
        let chunk = self.chunks.get_mut(number as usize)?;
        let row = chunk.rows.get_mut((slot % CHUNK) as usize)?.take()?;
        chunk
            .free
            .push(u16::try_from(slot % CHUNK).unwrap_or_default());
        if chunk.is_empty() {
            match self.spare {
                None => self.spare = Some(number),
                Some(_) => *chunk = Chunk::EMPTY,
            }
        }
        self.open.insert(number);
        self.len -= 1;
        Some(row)
    }

    /// Rows with their places, from `first` on, in the order of the places.
    pub(crate) fn iter_from(&self, first: K) -> impl Iterator<Item = (K, &T)> {
        let first: u32 = first.into();
        (first / CHUNK..)
            .zip(self.chunks.iter().skip((first / CHUNK) as usize))
            .flat_map(move |(number, chunk)| {
                let skipped = if number == first / CHUNK {
                    first % CHUNK
                } else {
                    0
                };
                (skipped..)
                    .zip(chunk.rows.iter().skip(skipped as usize))
                    .filter_map(move |(place, row)| {
                        row.as_ref()
                            .map(|row| (K::from(number * CHUNK + place), row))
                    })
            })
    }

    fn open_chunk(&mut self) -> u32 {
        if let Some(&number) = self.open.first() {
            return number;
        }
        let number = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        self.chunks.push(Chunk::EMPTY);
        self.open.insert(number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_used_again_lowest_chunk_first() {
        let mut slab = Slab::<u32, _>::new();
        let slots: Vec<u32> = (0..3 * CHUNK).map(|row| slab.insert(row)).collect();
        assert!(slots.iter().all(|&slot| slab.get(slot) == Some(&slot)));
        assert_eq!(slab.remove(2 * CHUNK), Some(2 * CHUNK));
        assert_eq!(slab.remove(7), Some(7));
        assert_eq!(slab.remove(7), None);
        assert_eq!(slab.insert(0), 7);
        assert_eq!(slab.insert(0), 2 * CHUNK);
        assert_eq!(slab.len(), u64::from(3 * CHUNK));
    }

    #[test]
    fn an_empty_chunk_is_given_back() {
        let mut slab = Slab::<u32, _>::new();
        let slots: Vec<u32> = (0..2 * CHUNK).map(|row| slab.insert(row)).collect();
        for slot in slots {
            slab.remove(slot);
        }
        assert_eq!(
            slab.chunks
                .iter()
                .filter(|chunk| chunk.rows.capacity() > 0)
                .count(),
            1,
            "and one is kept"
        );
    }

    #[test]
    fn rows_are_walked_from_any_place() {
        let mut slab = Slab::<u32, _>::new();
        for row in 0..CHUNK + 3 {
            slab.insert(row);
        }
        slab.remove(CHUNK);
        let walked: Vec<u32> = slab.iter_from(CHUNK - 1).map(|(slot, _)| slot).collect();
        assert_eq!(walked, [CHUNK - 1, CHUNK + 1, CHUNK + 2]);
        assert_eq!(slab.iter_from(9 * CHUNK).count(), 0);
    }
}

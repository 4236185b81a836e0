//! From an id to its place. Many small tables in place of one: each grows by itself, so that no single insertion waits for all
//! rows to move.

use std::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;

/// Hash function of ids, with a seed of this start, so that no client can aim at one table.
pub(crate) struct Hashing {
    seed: u64,
    shared: SharedSeed,
}

impl Hashing {
    pub(crate) fn new(seed: u64, shared: u64) -> Self {
        Self {
            seed,
            shared: SharedSeed::from_u64(shared),
        }
    }

    pub(crate) fn hash(&self, id: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(id);
        hasher.finish()
    }
}

/// Slots by the hash of an id; `K` is their type.
pub(crate) struct Index<K> {
    shards: Vec<HashTable<K>>,
}

impl<K: Copy + PartialEq> Index<K> {
    /// With this many tables: a power of two, at most 65,536.
    pub(crate) fn new(shards: u32) -> Self {
        Self {
            shards: (0..shards.next_power_of_two())
                .map(|_| HashTable::new())
                .collect(),
        }
    }

    /// Makes room for so many at once, where it is known that they come: growing step by step hashes each of them several times.
    pub(crate) fn reserve(&mut self, rows: usize, hash_of: impl Fn(K) -> u64) {
        let each = rows / self.shards.len();
        self.shards
            .iter_mut()
            .for_each(|table| table.reserve(each, |&slot| hash_of(slot)));
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(K) -> bool) -> Option<K> {
        let mut is_it = is_it;
        self.shards
            .get(self.shard(hash))?
            .find(hash, |&slot| is_it(slot))
            .copied()
    }

    pub(crate) fn insert(&mut self, hash: u64, slot: K, hash_of: impl Fn(K) -> u64) {
        let shard = self.shard(hash);
        if let Some(table) = self.shards.get_mut(shard) {
            table.insert_unique(hash, slot, |&slot| hash_of(slot));
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, slot: K, hash_of: impl Fn(K) -> u64) {
        let shard = self.shard(hash);
        let Some(table) = self.shards.get_mut(shard) else {
            return;
        };
        if let Ok(entry) = table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        // Memory goes back once a table is an eighth full, and not before, so that a row that comes and goes moves nothing.
        if table.capacity() > 64 && table.len() * 8 < table.capacity() {
            table.shrink_to(table.len() * 2, |&slot| hash_of(slot));
        }
    }

    /// The tables themselves use a hash's lowest and highest bits; these lie between.
    fn shard(&self, hash: u64) -> usize {
        usize::try_from(hash >> 40).unwrap_or_default() & (self.shards.len() - 1)
    }
}

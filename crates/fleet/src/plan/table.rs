//! Things by id, as a snapshot has them.

use std::{
    collections::{BTreeMap, btree_map::Keys},
    ops::Index,
    sync::Arc,
};

/// Things by id, in its order.
///
/// A copy has the same things, not copies of them: a snapshot is copied when something changes while somebody still reads
/// it, and nearly all of it stays as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Table<T>(BTreeMap<i64, Arc<T>>);

impl<T> Table<T> {
    /// The thing of this id.
    pub fn get(&self, id: &i64) -> Option<&T> {
        self.0.get(id).map(Arc::as_ref)
    }

    /// Whether there is one of this id.
    pub fn contains_key(&self, id: &i64) -> bool {
        self.0.contains_key(id)
    }

    /// All ids.
    pub fn keys(&self) -> Keys<'_, i64, Arc<T>> {
        self.0.keys()
    }

    /// All things.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.0.values().map(Arc::as_ref)
    }

    /// All things, as copies of the table share them.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts it in the place of what had this id.
    pub fn insert(&mut self, id: i64, thing: T) {
        self.0.insert(id, Arc::new(thing));
    }

    /// Has all of the other's as well.
    pub fn extend(&mut self, other: &Self) {
        let shared = other.0.iter().map(|(id, thing)| (*id, Arc::clone(thing)));
        self.0.extend(shared);
    }

    /// Takes the one of this id away; says whether there was one.
    pub fn remove(&mut self, id: &i64) -> bool {
        self.0.remove(id).is_some()
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: Clone> Table<T> {
    /// The thing of this id, to be changed; other copies keep it as it is.
    pub fn get_mut(&mut self, id: &i64) -> Option<&mut T> {
        self.0.get_mut(id).map(Arc::make_mut)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(i64, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (i64, T)>>(things: I) -> Self {
        let shared = things.into_iter().map(|(id, thing)| (id, Arc::new(thing)));
        Self(shared.collect())
    }
}

impl<T> Index<&i64> for Table<T> {
    type Output = T;

    /// # Panics
    /// When there is none of this id.
    fn index(&self, id: &i64) -> &T {
        &self.0[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_neither_has_changed() {
        let one: Table<String> = [(1, "a".to_owned()), (2, "b".to_owned())].into_iter().collect();
        let mut other = one.clone();
        other.get_mut(&2).unwrap().push('c');
        other.insert(3, "d".to_owned());
        assert!(std::ptr::eq(&one[&1], &other[&1]));
        assert_eq!(one.values().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(other.values().collect::<Vec<_>>(), ["a", "bc", "d"]);
        assert!(other.remove(&1) && !other.remove(&1));
        assert!(one.contains_key(&1));
    }
}

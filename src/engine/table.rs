//! Something for each service, by id.

use std::collections::BTreeSet;

use super::ServiceId;

/// A set of services. Inserted one by one: collecting would sort first, with code of its own.
pub(super) fn set(ids: impl IntoIterator<Item = ServiceId>) -> BTreeSet<ServiceId> {
    let mut set = BTreeSet::new();
    set.extend(ids);
    set
}

/// A flat table: the place is the id's index, and what is there answers only to its own id.
#[derive(Clone, Debug)]
pub struct Table<T> {
    places: Vec<Option<(ServiceId, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new() }
    }
}

impl<T> Table<T> {
    /// What is there for this service.
    #[must_use]
    pub fn get(&self, id: ServiceId) -> Option<&T> {
        let (of, value) = self.places.get(id.index())?.as_ref()?;
        (*of == id).then_some(value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: ServiceId) -> Option<&mut T> {
        let (of, value) = self.places.get_mut(id.index())?.as_mut()?;
        (*of == id).then_some(value)
    }

    /// Puts something there, in place of what was.
    pub fn insert(&mut self, id: ServiceId, value: T) {
        if self.places.len() <= id.index() {
            self.places.resize_with(id.index() + 1, || None);
        }
        self.places[id.index()] = Some((id, value));
    }

    /// Takes away what is there.
    pub fn remove(&mut self, id: ServiceId) -> Option<T> {
        self.get(id)?;
        self.places
            .get_mut(id.index())?
            .take()
            .map(|(_, value)| value)
    }

    /// Everything, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, &T)> {
        self.places.iter().flatten().map(|(id, value)| (*id, value))
    }
}

impl<T: Default> Table<T> {
    /// What is there, or the default put there now.
    pub fn or_default(&mut self, id: ServiceId) -> &mut T {
        if self.get(id).is_none() {
            self.insert(id, T::default());
        }
        self.get_mut(id).expect("it was put there just now")
    }
}

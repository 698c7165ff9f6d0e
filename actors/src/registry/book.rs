//! The Registry's book: what the files declare and what the store holds, merged, and every change to it. Blocks; knows no actor.
//!
//! Each change is worked out on a copy, written to disk, and then taken over: when the disk refuses, nothing has changed.

use super::{ABSENT_KEPT, RegistryParts};
use crate::ports::{
    destination_check::PATH,
    entropy::Entropy,
    registry_store::{DestinationIdentity, RegistryState, STATE_VERSION},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};
use tidegate_schemas::{
    agreement::{DESTINATIONS_MAX, Destination, ServiceAgreement},
    condition::{Condition, version_tag},
    config::{
        Problem, Problems,
        check::{CheckedDestination, Occasion},
        file::DestinationSource,
        raw::RawDestination,
    },
    history::{AgreementChange, AgreementLog, Canonical, Who},
    id::DestinationId,
    messages::registry::{
        Broken, ChangeError, Changed, Declared, DeclaredDestination, Expect, InForce, PutDestination, PutWindows,
        RegisteredDestination, RegistrySnapshot, Reload, Reloaded, RemoveDestination, WrittenAgreement,
    },
    route::Route,
    view::BrokenDestination,
};

/// What a checked destination of the store is, or why it can't be used.
type Stored = Result<CheckedDestination, String>;

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    state: RegistryState,
    declared: Arc<Declared>,
    stored: BTreeMap<DestinationId, Stored>,
    epoch: u64,
    revision: u64,
}

impl Book {
    /// Reads the store, takes note of what the files say now, and draws the identities that are missing: they are on disk before
    /// anybody hears of them.
    pub fn open(parts: &RegistryParts) -> Result<Self, &'static str> {
        let state = parts.store.load().map_err(|error| {
            tracing::error!(%error, "the registry can't start");
            "its store could not be read"
        })?;
        if state.version != STATE_VERSION {
            tracing::error!(
                version = state.version,
                "the registry file was written by another version of this program"
            );
            return Err("its store was written by another version");
        }
        let declared = Arc::clone(&parts.declared.lock().unwrap_or_else(PoisonError::into_inner));
        let stored = check_stored(parts, &state);
        for (id, problems) in stored.iter().filter_map(|(id, stored)| Some((id, stored.as_ref().err()?))) {
            tracing::error!(destination = %id, %problems, "a destination that was made at run time can't be used any more: \
                what waits for it is kept; put it right through the admin API");
        }
        for Problem { path, message, .. } in warnings(&stored) {
            tracing::warn!(at = %path, "{message}");
        }
        let mut book = Self { state, declared, stored, epoch: 0, revision: 1 };
        let next = book.noted(parts, &book.declared, book.state.clone(), &|place| Who::Files(place));
        if next != book.state {
            parts.store.save(&next).map_err(|error| {
                tracing::error!(%error, "the registry can't keep what the config says now");
                "its store could not be written"
            })?;
            book.state = next;
        }
        let mut epoch = [0; 8];
        parts.entropy.fill(&mut epoch);
        book.epoch = u64::from_le_bytes(epoch);
        Ok(book)
    }

    /// What is in force.
    pub fn snapshot(&self) -> RegistrySnapshot {
        let mut snapshot = RegistrySnapshot {
            epoch: self.epoch,
            revision: self.revision,
            routes: Arc::clone(&self.declared.routes),
            ..RegistrySnapshot::default()
        };
        for (id, stored) in &self.stored {
            match stored {
                Ok(checked) => {
                    let registered = self.registered(&checked.destination, &DestinationSource::Api);
                    snapshot.destinations.insert(id.clone(), registered);
                }
                Err(reason) => {
                    let intake = self.state.destinations.get(id).map(Canonical::intake).unwrap_or_default();
                    snapshot.broken.insert(id.clone(), Broken { reason: reason.clone(), intake });
                }
            }
        }
        // The files win.
        for DeclaredDestination { destination, source, .. } in &self.declared.destinations {
            snapshot.broken.remove(&destination.id);
            snapshot.destinations.insert(destination.id.clone(), self.registered(destination, source));
        }
        let known = self.state.agreements.keys();
        let is_gone =
            |id: &&DestinationId| !snapshot.destinations.contains_key(*id) && !snapshot.broken.contains_key(*id);
        snapshot.gone = known.filter(is_gone).cloned().collect();
        snapshot
    }

    fn registered(&self, destination: &Destination, source: &DestinationSource) -> Arc<RegisteredDestination> {
        let mut destination = destination.clone();
        if let Some(identity) = self.state.identities.get(&destination.id) {
            destination.keys.signing_seed = identity.signing_seed;
            destination.keys.pseudonym = identity.pseudonym;
        }
        let version = self.state.agreements.get(&destination.id).map_or(0, |log| log.version);
        Arc::new(RegisteredDestination { destination, source: source.clone(), version })
    }

    /// Rises with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The history of one destination, newest first.
    pub fn history(&self, id: &DestinationId) -> Option<Vec<AgreementChange>> {
        Some(self.state.agreements.get(id)?.changes.iter().rev().cloned().collect())
    }

    /// The agreement with one destination as it is written.
    pub fn written(&self, id: &DestinationId) -> Option<WrittenAgreement> {
        let log = self.state.agreements.get(id)?;
        let declared = self.declared.destinations.iter().find(|declared| declared.destination.id == *id);
        self.written_of(id, log, declared)
    }

    fn written_of(
        &self,
        id: &DestinationId,
        log: &AgreementLog,
        declared: Option<&DeclaredDestination>,
    ) -> Option<WrittenAgreement> {
        let keys = log.now.as_ref()?.without_address();
        let broken =
            self.stored.get(id).filter(|_| declared.is_none()).and_then(|stored| stored.as_ref().err().cloned());
        let source = declared.map_or(DestinationSource::Api, |declared| declared.source.clone());
        Some(WrittenAgreement { keys, version: log.version, source, broken })
    }

    /// All that is in force, as it is written.
    pub fn everything(&self) -> InForce {
        let declared = by_name(&self.declared);
        let each = self.state.agreements.iter();
        let written =
            each.filter_map(|(id, log)| Some((id.clone(), self.written_of(id, log, declared.get(id).copied())?)));
        InForce { tag: self.tag(), destinations: written.collect(), origins: Arc::clone(&self.declared.origins) }
    }

    fn tag(&self) -> String {
        RegistrySnapshot { epoch: self.epoch, revision: self.revision, ..RegistrySnapshot::default() }.config_tag()
    }

    /// That the change is made of what is there (RFC 9110 section 13). Called in the change's turn, after what would refuse it anyway
    /// (section 13.2.1), before what it says is looked at.
    fn is_of(&self, id: &DestinationId, condition: &Condition) -> Result<(), ChangeError> {
        let there = self.state.destinations.contains_key(id);
        let version = self.state.agreements.get(id).map(|log| log.version).filter(|_| there);
        match condition.holds(version.map(version_tag).as_deref()) {
            true => Ok(()),
            false => Err(ChangeError::Changed { id: id.clone(), version }),
        }
    }

    /// Puts a destination into the store.
    pub fn put(&mut self, parts: &RegistryParts, message: PutDestination) -> Result<Changed, ChangeError> {
        let PutDestination { destination: id, mut raw, expect, condition, dry_run } = message;
        self.may_change(&id)?;
        match (expect, self.state.destinations.contains_key(&id)) {
            (Expect::Absent, true) => return Err(ChangeError::Exists(id)),
            (Expect::Present, false) => return Err(ChangeError::Unknown(id)),
            _ => {}
        }
        self.is_of(&id, &condition)?;
        if raw.onion.is_none() && condition.if_match.is_some() {
            // What was shown to whoever changes it has no address.
            raw.onion = self.state.destinations.get(&id).and_then(Canonical::onion);
        }
        let others = self.declared.destinations.iter().map(|declared| &declared.destination.id);
        let names: BTreeSet<_> = others.chain(self.state.destinations.keys()).chain([&id]).collect();
        if names.len() > DESTINATIONS_MAX {
            let message = format!("there are {DESTINATIONS_MAX} destinations already");
            return Err(ChangeError::Values(Problem::new(PATH, message, "").into()));
        }
        self.keep(parts, &id, &raw, dry_run)
    }

    /// Changes the windows of a destination of the store.
    pub fn put_windows(&mut self, parts: &RegistryParts, message: PutWindows) -> Result<Changed, ChangeError> {
        let PutWindows { destination: id, windows, condition, dry_run } = message;
        self.may_change(&id)?;
        let canonical = self.state.destinations.get(&id).ok_or_else(|| ChangeError::Unknown(id.clone()))?;
        self.is_of(&id, &condition)?;
        let mut raw = canonical.raw().map_err(|error| {
            ChangeError::Values(Problem::new("destination", error.to_string(), "put the whole destination").into())
        })?;
        raw.windows = windows;
        self.keep(parts, &id, &raw, dry_run)
    }

    fn keep(
        &mut self,
        parts: &RegistryParts,
        id: &DestinationId,
        raw: &RawDestination,
        dry_run: bool,
    ) -> Result<Changed, ChangeError> {
        let checked = parts.check.check(id, raw, Occasion::New).map_err(ChangeError::Values)?;
        let canonical = Canonical::of(raw);
        let changed = self.changed(id, Some(&canonical), self.usable(id), Some(&checked.destination));
        let changed = Changed { warnings: checked.warnings.clone(), ..changed };
        if dry_run {
            return Ok(changed);
        }
        let mut next = self.state.clone();
        next.destinations.insert(id.clone(), canonical.clone());
        next.agreements.entry(id.clone()).or_default().note(Some(&canonical), parts.clock.now(), &Who::Admin);
        identify(&mut next, id, &*parts.entropy);
        self.save(parts, next)?;
        self.stored.insert(id.clone(), Ok(checked));
        Ok(changed)
    }

    /// What the store has under this name, if it can be used.
    fn usable(&self, id: &DestinationId) -> Option<&Destination> {
        Some(&self.stored.get(id)?.as_ref().ok()?.destination)
    }

    /// Takes a destination out of the store.
    pub fn remove(&mut self, parts: &RegistryParts, message: RemoveDestination) -> Result<Changed, ChangeError> {
        let RemoveDestination { destination: id, condition, dry_run } = message;
        self.may_change(&id)?;
        if !self.state.destinations.contains_key(&id) {
            return Err(ChangeError::Unknown(id));
        }
        self.is_of(&id, &condition)?;
        if let Some(route) = self.declared.routes.0.iter().find(|route| route.names(&id)) {
            return Err(ChangeError::Routed { id, topic: route.filter.subscription() });
        }
        let changed = self.changed(&id, None, self.usable(&id), None);
        if dry_run {
            return Ok(changed);
        }
        let mut next = self.state.clone();
        next.destinations.remove(&id);
        next.agreements.entry(id.clone()).or_default().note(None, parts.clock.now(), &Who::Admin);
        forget_the_longest_gone(&mut next);
        self.save(parts, next)?;
        self.stored.remove(&id);
        Ok(changed)
    }

    /// Takes over what the files say, all of it or nothing. The destinations of the store are looked at anew: what they refer to (key
    /// files, time zones) may be another one now.
    pub fn reload(&mut self, parts: &RegistryParts, message: &Reload) -> Result<Reloaded, ChangeError> {
        let Reload { declared, condition, dry_run } = message;
        if !condition.holds(Some(&self.tag())) {
            return Err(ChangeError::ConfigChanged { tag: self.tag() });
        }
        // A route may lead to a destination of the store; it may have gone since the files were checked.
        let known = by_name(declared);
        let named = declared.routes.0.iter().flat_map(Route::named);
        if let Some(id) =
            named.into_iter().find(|id| !known.contains_key(id) && !self.state.destinations.contains_key(id))
        {
            return Err(ChangeError::Unknown(id.clone()));
        }
        let stored = check_stored(parts, &self.state);
        let mut reloaded = self.compare(declared, &stored);
        reloaded.tag = self.tag();
        if *dry_run {
            return Ok(reloaded);
        }
        let next = self.noted(parts, declared, self.state.clone(), &|place| Who::Reload(place));
        if next == self.state {
            self.revision += 1;
        } else {
            self.save(parts, next)?;
        }
        self.declared = Arc::clone(declared);
        self.stored = stored;
        // What a Registry begins with that has to start again.
        *parts.declared.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(declared);
        reloaded.tag = self.tag();
        Ok(reloaded)
    }

    fn compare(&self, declared: &Declared, stored: &BTreeMap<DestinationId, Stored>) -> Reloaded {
        let (old, new) = (by_name(&self.declared), by_name(declared));
        let mut reloaded = Reloaded { routes_changed: self.declared.routes != declared.routes, ..Reloaded::default() };
        let declared = old.keys().chain(new.keys()).copied();
        let names: BTreeSet<&DestinationId> = declared.chain(self.state.destinations.keys()).collect();
        for id in names {
            let (before, after) = (old.get(id), new.get(id));
            // One that the files drop may be there in the store.
            let canonical = after.map(|after| &after.raw).or_else(|| self.state.destinations.get(id));
            let (was, is) = (behind(&self.stored, id, before), behind(stored, id, after));
            match (&was, &is) {
                (Some(Err(_)), Some(Err(_))) => {}
                (_, Some(Err(reason))) => {
                    let reason = (*reason).to_owned();
                    reloaded.broken.push(BrokenDestination { destination: id.clone(), reason });
                }
                (Some(Err(_)), _) => reloaded.mended.push(id.clone()),
                _ => {}
            }
            let (before, checked) = (was.and_then(Result::ok), is.and_then(Result::ok));
            let changed = self.changed(id, canonical, before, checked);
            if changed.kind.is_some() {
                reloaded.changed.push(changed);
            } else if before.zip(checked).is_some_and(|(before, after)| before.keys != after.keys) {
                reloaded.new_keys.push(id.clone());
            }
        }
        reloaded.warnings = warnings(stored.iter().filter(|(id, _)| !new.contains_key(id)));
        reloaded.shadowed = self.state.destinations.keys().filter(|id| new.contains_key(id)).cloned().collect();
        reloaded
    }

    /// What the next state of one destination changes.
    fn changed(
        &self,
        id: &DestinationId,
        next: Option<&Canonical>,
        before: Option<&Destination>,
        after: Option<&Destination>,
    ) -> Changed {
        let log = self.state.agreements.get(id).cloned().unwrap_or_default();
        let agreement = |destination: &Destination| Box::<ServiceAgreement>::new(destination.agreement.clone());
        let (kind, changes) = log.change(next).map_or((None, Vec::new()), |(kind, changes)| (Some(kind), changes));
        Changed {
            destination: id.clone(),
            version: log.version + u64::from(kind.is_some()),
            kind,
            changes,
            before: before.map(agreement),
            after: after.map(agreement),
            warnings: Vec::new(),
        }
    }

    /// That the files don't have it.
    fn may_change(&self, id: &DestinationId) -> Result<(), ChangeError> {
        match self.declared.destinations.iter().find(|declared| declared.destination.id == *id) {
            Some(declared) => Err(ChangeError::Declared { id: id.clone(), source_of: declared.source.clone() }),
            None => Ok(()),
        }
    }

    /// The state with this declared: every version and identity that it asks for.
    fn noted(
        &self,
        parts: &RegistryParts,
        declared: &Declared,
        mut next: RegistryState,
        who: &dyn Fn(Option<String>) -> Who,
    ) -> RegistryState {
        let now = parts.clock.now();
        let declared = by_name(declared);
        for (id, declaration) in &declared {
            let place = Some(declaration.source.to_string());
            next.agreements.entry((*id).clone()).or_default().note(Some(&declaration.raw), now, &who(place));
            identify(&mut next, id, &*parts.entropy);
        }
        for (id, log) in &mut next.agreements {
            if !declared.contains_key(id) {
                // One that only the store has, again or still, or one that is gone.
                log.note(next.destinations.get(id), now, &who(None));
            }
        }
        forget_the_longest_gone(&mut next);
        next
    }

    fn save(&mut self, parts: &RegistryParts, next: RegistryState) -> Result<(), ChangeError> {
        parts.store.save(&next).map_err(|error| ChangeError::Store(error.to_string()))?;
        self.state = next;
        self.revision += 1;
        Ok(())
    }
}

fn by_name(declared: &Declared) -> BTreeMap<&DestinationId, &DeclaredDestination> {
    declared.destinations.iter().map(|declared| (&declared.destination.id, declared)).collect()
}

/// Every destination of the store, as it can be used now.
fn check_stored(parts: &RegistryParts, state: &RegistryState) -> BTreeMap<DestinationId, Stored> {
    let check = |id: &DestinationId, raw: &Canonical| match raw.raw() {
        Ok(raw) => parts.check.check(id, &raw, Occasion::Kept),
        Err(error) => Err(Problems::from(Problem::new("destination", error.to_string(), ""))),
    };
    let each = state.destinations.iter();
    each.map(|(id, raw)| (id.clone(), check(id, raw).map_err(|problems| problems.to_string()))).collect()
}

/// What deserves a second look, under the names of the destinations.
fn warnings<'b>(stored: impl IntoIterator<Item = (&'b DestinationId, &'b Stored)>) -> Vec<Problem> {
    let usable = stored.into_iter().filter_map(|(id, stored)| Some((id, stored.as_ref().ok()?)));
    let named = |id: &DestinationId, warning: &Problem| {
        let rest = warning.path.strip_prefix(PATH).unwrap_or_default();
        Problem { path: format!("{PATH}.{id}{rest}"), ..warning.clone() }
    };
    usable.flat_map(|(id, checked)| checked.warnings.iter().map(move |warning| named(id, warning))).collect()
}

/// What is in force under a name: what the files declare, else what the store has, if that can be used.
fn behind<'b>(
    stored: &'b BTreeMap<DestinationId, Stored>,
    id: &DestinationId,
    declared: Option<&&'b DeclaredDestination>,
) -> Option<Result<&'b Destination, &'b str>> {
    match declared {
        Some(declared) => Some(Ok(&declared.destination)),
        None => {
            let stored = stored.get(id)?.as_ref();
            Some(stored.map(|checked| &checked.destination).map_err(String::as_str))
        }
    }
}

/// Keeps what is known of the [`ABSENT_KEPT`] that went last.
fn forget_the_longest_gone(state: &mut RegistryState) {
    let gone = state.agreements.iter().filter(|(_, log)| log.now.is_none());
    let mut gone: Vec<_> = gone.map(|(id, log)| (log.changes.last().map(|change| change.at), id.clone())).collect();
    gone.sort();
    for (_, id) in gone.iter().take(gone.len().saturating_sub(ABSENT_KEPT)) {
        state.agreements.remove(id);
        state.identities.remove(id);
    }
}

fn identify(state: &mut RegistryState, id: &DestinationId, entropy: &dyn Entropy) {
    if !state.identities.contains_key(id) {
        let mut signing_seed = [0; 32];
        entropy.fill(&mut signing_seed);
        state.identities.insert(id.clone(), DestinationIdentity { signing_seed, pseudonym: entropy.bytes16() });
    }
}

//! What somebody else does in the cloud.

use anyhow::Result;

use super::super::gateway::Gateway;
use super::super::laws::Version;
use super::{NAMES, Walk};

impl Walk {
    /// Somebody else puts, changes or deletes an object.
    pub(super) fn meddle(&mut self, gateway: &Gateway) -> Result<()> {
        let objects = self.cloud.objects();
        let keys: Vec<&String> =
            objects.keys().filter(|key| !key.ends_with('/') && !key.starts_with(".fsd/")).collect();
        let picked = keys.get(usize::try_from(self.rng.below(keys.len() as u64 * 2 + 1))?);
        let key = match picked {
            Some(key) => (*key).clone(),
            None => NAMES[usize::try_from(self.rng.below(NAMES.len() as u64))?].to_owned(),
        };
        if self.model.is_dir(&key) {
            return Ok(());
        }
        let version =
            objects.get(&key).and_then(|body| self.cloud.laws(|laws| laws.version_of(body)));
        let held = self.held.as_ref().and_then(|held| self.model.files.get(&held.file));
        let is_held = held.is_some_and(|file| {
            version.is_some_and(|version| version.file == file.version.file)
                || objects.get(&key) == Some(&file.seen.body)
        });
        if is_held || self.is_held(&key) {
            return Ok(());
        }
        // Of a file with several names it would make several files.
        if version.is_some_and(|version| self.model.names_of(version.file) > 1)
            || self.model.file(&key).is_some_and(|(number, _)| self.model.names_of(number) > 1)
        {
            return Ok(());
        }
        // What can't be there beside what is here, the gateway leaves to a person.
        let mut above = key.match_indices('/').map(|(slash, _)| &key[..slash]);
        if !self.cloud.can_put(&key)
            || self.cloud.has_real_dirs() && above.any(|path| self.model.names.contains_key(path))
        {
            return Ok(());
        }
        if let Some(there) = objects.get(&key) {
            self.takes(gateway, there, version);
        }
        if picked.is_some() && self.rng.below(4) == 0 {
            self.note(format!("somebody else deletes {key}"));
            self.cloud.delete_foreign(&key);
            self.foreign.insert(key, None);
            return Ok(());
        }
        let of = keys.get(usize::try_from(self.rng.below(keys.len() as u64 * 4 + 1))?);
        if let Some(of) = of.filter(|of| **of != &key)
            && let Some(body) = self.cloud.copy_foreign(of, &key, gateway.clock.wall())
        {
            self.note(format!("somebody else copies {of} to {key}"));
            self.cloud.laws(|laws| laws.is_shared(&body));
            self.foreign.insert(key, Some(body));
            return Ok(());
        }
        let body = self.body();
        let file = self.model.new_file();
        let version = self.model.new_version(file);
        self.note(format!("somebody else puts {key}: {} bytes", body.len()));
        self.cloud.laws(|laws| laws.is_whole(&body, version));
        self.cloud.put_foreign(&key, body.clone(), gateway.clock.wall());
        self.foreign.insert(key, Some(body));
        Ok(())
    }

    /// Somebody else takes an object away that has the content `there`, and is perhaps a `version` of a file.
    fn takes(&mut self, gateway: &Gateway, there: &[u8], version: Option<Version>) {
        // It may be what they had put elsewhere, and the gateway moved here.
        for put in self.foreign.values_mut().filter(|put| put.as_deref() == Some(there)) {
            *put = None;
        }
        self.hit.extend(version.map(|version| version.file));
        for (number, file) in &mut self.model.files {
            let has = file.seen.body == there;
            if has || version.is_some_and(|version| version.file == *number) {
                self.hit.insert(*number);
                self.cloud.laws(|laws| laws.dies(*number));
                // What was uploaded may be replaced; and what the rest of a partly changed file was to come from.
                file.changed &= !has && gateway.is_whole(file.seen.ino);
            }
        }
    }
}

//! A file that a user keeps open and goes on writing, while all else goes on.

use anyhow::Result;
use fsd::vfs::{HandleId, OpenHow, WriteHow};

use super::super::gateway::{Gateway, Seen};
use super::super::laws::Version;
use super::Walk;

/// An open file.
#[derive(Debug)]
pub(super) struct Held {
    id: HandleId,
    pub(super) file: u64,
    /// What may be in it: of a write that is under way, what was before and what is behind it.
    states: Vec<(Vec<u8>, Version)>,
}

impl Walk {
    pub(super) fn is_held(&self, path: &str) -> bool {
        let held = self.held.as_ref().map(|held| held.file);
        held.is_some() && held == self.model.names.get(path).copied()
    }

    /// Goes on with what is held open, or begins with `path`.
    pub(super) async fn hold(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        match self.held.take() {
            None => self.open(gateway, path).await,
            Some(held) => {
                self.write_on(gateway, held).await?;
                if self.rng.below(3) == 0 { self.close_held(gateway) } else { Ok(()) }
            }
        }
    }

    async fn open(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let Some((number, file)) = self.model.file(path).map(|(n, file)| (n, file.clone())) else {
            return Ok(());
        };
        self.note(format!("open {path}"));
        let how = OpenHow { write: true, ..OpenHow::default() };
        let opened = gateway.vfs.open(file.seen.ino, how).await;
        let Some(id) = self.ended(opened)? else { return Ok(()) };
        self.held = Some(Held { id, file: number, states: vec![(file.seen.body, file.version)] });
        Ok(())
    }

    async fn write_on(&mut self, gateway: &Gateway, held: Held) -> Result<()> {
        let Held { id, file, states } = held;
        let mut body = states.first().map(|(body, _)| body.clone()).unwrap_or_default();
        let at = usize::try_from(self.rng.below(body.len() as u64 + 100))?;
        let data = self.body();
        body.resize(body.len().max(at + data.len()), 0);
        body[at..at + data.len()].copy_from_slice(&data);
        self.note(format!("write on at {at}: {} bytes", data.len()));
        let written = (body, self.model.new_version(file));
        self.cloud.laws(|laws| laws.dies(file));
        let states = states.into_iter().chain([written.clone()]).collect();
        self.held = Some(Held { id, file, states });
        let outcome = gateway.vfs.write(id, at as u64, &data, WriteHow::default()).await;
        if self.ended(outcome)?.is_none() {
            // Nothing of it was written: it was what is behind it, or before, that could not be had.
            if let Some(held) = &mut self.held {
                held.states.truncate(1);
            }
            return Ok(());
        }
        self.held = Some(Held { id, file, states: vec![written.clone()] });
        if let Some(known) = self.model.files.get_mut(&file) {
            let (body, version) = written;
            known.seen = Seen { size: body.len() as u64, body, ..known.seen.clone() };
            (known.version, known.changed) = (version, true);
        }
        Ok(())
    }

    /// Closes what is held open.
    pub(super) fn close_held(&mut self, gateway: &Gateway) -> Result<()> {
        match self.held.take() {
            Some(held) => self.let_go(gateway, held),
            None => Ok(()),
        }
    }

    fn let_go(&mut self, gateway: &Gateway, held: Held) -> Result<()> {
        self.note("close".into());
        let ino = self.model.files.get(&held.file).map(|file| file.seen.ino);
        self.cloud.laws(|laws| {
            for (body, version) in &held.states {
                laws.is_whole(body, *version);
                ino.into_iter().for_each(|ino| laws.lives(*version, ino));
            }
        });
        Ok(gateway.vfs.release(held.id)?)
    }

    /// The gateway died. What was held open is left as it was, and counts.
    pub(in super::super) fn crashed(&mut self) {
        self.note("crash".into());
        let Some(Held { file, states, .. }) = self.held.take() else { return };
        let name = self.model.names.iter().find(|(_, number)| **number == file);
        let Some(path) = name.map(|(path, _)| path.clone()) else { return };
        let allowed = states.into_iter().map(|(body, version)| (Some(body), version)).collect();
        self.begin(&path, file, allowed);
    }
}

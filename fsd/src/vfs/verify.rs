//! Looks whether what is on record of files, what is cached of them and what the cloud has are the same. It changes nothing.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use super::check::Code;
use super::{Finding, Result, Vfs, Work};
use crate::cache::Differing;
use crate::meta::Inode;
use crate::types::{Digest, Ino, chain};

/// Files that are looked at beside each other: a look waits for the cloud, mostly.
const FILES_AT_ONCE: usize = 8;

/// A name of a file, with what the cloud has of it.
struct Subject {
    /// The file.
    file: Inode,
    /// Whose object it is: the file's, or that of a further name of it.
    owner: Inode,
}

impl Vfs {
    /// Compares the files at and below `tops` with their objects. `deep`: reads the objects, and not only what they say of themselves.
    pub async fn verify_below(self: &Arc<Self>, tops: Vec<Ino>, deep: bool, work: &Work) {
        let verify = async {
            for top in tops {
                self.verify_all(top, deep, work).await;
            }
        };
        work.run(verify).await;
    }

    async fn verify_all(self: &Arc<Self>, top: Ino, deep: bool, work: &Work) {
        let vfs = self.clone();
        let files = match self.tasks.blocking(move || vfs.files_below(top)).await {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => return work.failed(|| chain(&error)),
            Err(error) => return work.failed(|| chain(&error)),
        };
        let looks = files.into_iter().map(|ino| async move {
            if let Err(error) = self.verify_file(ino, deep, work).await {
                work.failed(|| format!("{}: {}", self.shown(ino), chain(&error)));
            }
            work.did_file();
        });
        work.expect(looks.len() as u64, 0);
        stream::iter(looks).for_each_concurrent(FILES_AT_ONCE, |look| look).await;
    }

    async fn verify_file(self: &Arc<Self>, ino: Ino, deep: bool, work: &Work) -> Result<()> {
        let mut known = None;
        for subject in self.subjects(ino)? {
            known = self.verify_subject(&subject, deep, work).await?.or(known);
        }
        let file = self.inode(ino)?;
        let here = self.cache.bytes_here(&file)?;
        if here == 0 || !self.is_clean(&file)? {
            return Ok(());
        }
        work.expect(0, here);
        let (vfs, of) = (self.clone(), file.clone());
        let (done, came) = tokio::sync::mpsc::unbounded_channel();
        let look = self.tasks.blocking(move || -> Result<Option<Differing>> {
            let backing = vfs.cache.backing(of.ino)?;
            // Nobody may be there any more to be told.
            let told = |bytes| {
                let _ = done.send(bytes);
            };
            Ok(vfs.cache.verify_cached(&backing, &of, known.as_ref(), told))
        });
        let differing = tell(look, came, work).await??;
        self.report(&Subject { owner: file.clone(), file }, differing, work)
    }

    /// Compares an object with its record. Returns its digest, if that is known.
    async fn verify_subject(
        &self,
        subject: &Subject,
        deep: bool,
        work: &Work,
    ) -> Result<Option<Digest>> {
        let Subject { file, owner } = subject;
        let size = file.attr.size;
        let verified = self.cache.verify_object(owner, size).await?;
        let mut differing = verified.differing;
        if verified.digest.is_none() {
            work.did_not_prove();
        }
        if deep
            && differing.is_none()
            && let Some(digest) = &verified.digest
        {
            work.expect(0, size);
            let came = |bytes| work.did_bytes(bytes);
            differing = self.cache.verify_content(owner, size, digest, came).await?;
        }
        self.report(subject, differing, work)?;
        Ok(verified.digest)
    }

    /// Tells of a difference, if there is one and nothing has changed since: who writes or uploads meanwhile makes none.
    fn report(&self, subject: &Subject, differing: Option<Differing>, work: &Work) -> Result<()> {
        let Some(Differing { what, detail }) = differing else { return Ok(()) };
        let Subject { file, owner } = subject;
        let now = self.inode(owner.ino).ok().and_then(|now| now.object);
        if !self.is_clean(file)? || now != owner.object {
            return Ok(());
        }
        tracing::error!(
            path = self.shown(owner.ino),
            ?what,
            detail,
            "a file is not what is on record of it"
        );
        let (code, at) = (Code::Differs(what), self.shown(owner.ino));
        work.find(Finding { code, at, what: detail, repaired: false });
        Ok(())
    }

    /// The names of the file `ino` whose objects hold what it holds.
    fn subjects(&self, ino: Ino) -> Result<Vec<Subject>> {
        self.meta.read(|tx| {
            let Some(file) = tx.inode(ino)? else { return Ok(Vec::new()) };
            let mut owners = vec![file.clone()];
            for alias in tx.aliases(ino)? {
                owners.extend(tx.inode(alias)?);
            }
            let holds = |owner: &Inode| {
                owner.object.as_ref().is_some_and(|o| o.etag.is_some() && o.content == file.content)
            };
            let subject = |owner| Subject { file: file.clone(), owner };
            Ok(owners.into_iter().filter(holds).map(subject).collect())
        })
    }
}

/// Waits for `look`, and adds up what it tells meanwhile.
async fn tell<T>(
    look: impl Future<Output = T>,
    mut came: tokio::sync::mpsc::UnboundedReceiver<u64>,
    work: &Work,
) -> T {
    tokio::pin!(look);
    loop {
        tokio::select! {
            biased;
            Some(bytes) = came.recv() => work.did_bytes(bytes),
            looked = &mut look => {
                while let Ok(bytes) = came.try_recv() {
                    work.did_bytes(bytes);
                }
                return looked;
            }
        }
    }
}

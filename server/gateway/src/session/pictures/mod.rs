//! The session's pictures: from the announcement of an upload to the picture the model has seen, and its end.

mod file;
mod kept;
mod list;
mod look;
mod receive;
mod uploads;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wire::{ErrorCode, Upload};

use super::context::{Context, Setup};
use api::{Failure, Shown};
use list::{Picture, PictureList, Stage};
use uploads::Uploads;

pub use file::{Budget, CompleteFile, File, Sender};
pub use kept::KeptPictures;

/// What a picture is known as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PictureName {
    /// The number of the picture's upload, from the moment that was announced.
    Upload(u32),
    Image(String),
}

/// Tells which pictures questions are about that are not answered yet.
pub type Waits<'a> = &'a dyn Fn() -> Vec<PictureName>;

/// What came of an upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Outcome {
    Image(String),
    Failed(ErrorCode),
}

/// How a picture stands for a question.
pub enum LookUp {
    /// The picture is on its way: the question waits.
    Pending,
    Ready(Shown),
    Unusable(Failure),
}

impl LookUp {
    pub fn is_unusable(&self) -> bool {
        matches!(self, LookUp::Unusable(_))
    }
}

/// A session's pictures, and the uploads that bring them.
pub struct Pictures {
    uploads: Uploads,
    outcomes: HashMap<u32, Outcome>,
    list: PictureList,
    /// Of some picture it is known now whether it can be asked about, which was not before.
    settled: bool,
}

impl Pictures {
    pub fn new(setup: &Setup) -> Self {
        let (tag, budget) = (setup.tag.clone(), setup.budget.clone());
        Pictures {
            uploads: Uploads::new(tag, setup.asker, budget, setup.limits.upload_window),
            outcomes: HashMap::new(),
            list: PictureList::default(),
            settled: false,
        }
    }

    /// Whether questions that waited for a picture may go on, or fail, since this was last asked.
    pub fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.settled)
    }

    /// Bytes of memory, but for the pictures themselves and the files on their way.
    pub fn bytes(&self) -> usize {
        const OUTCOME: usize = size_of::<(u32, Outcome)>() + 1 + 48;
        self.uploads.bytes() + OUTCOME * self.outcomes.capacity() + self.list.bytes()
    }

    /// Whether an upload's number was announced before.
    pub fn knows(&self, upload: u32) -> bool {
        self.uploads.knows(upload)
    }

    /// The announcement of this upload was not understood.
    pub fn refused(&mut self, upload: u32, code: ErrorCode) {
        self.uploads.close(&Upload {
            upload,
            ..Upload::default()
        });
        self.note(upload, code);
    }

    fn note(&mut self, upload: u32, code: ErrorCode) {
        if self.uploads.knows(upload) {
            self.outcomes.insert(upload, Outcome::Failed(code));
        }
    }

    /// The picture used longest ago of those that no question is about.
    fn oldest_unneeded(&self, waits: Waits<'_>) -> Option<&Picture> {
        let asked: Vec<_> = waits().iter().map(|name| self.resolve(name)).collect();
        self.list.oldest(|picture| {
            matches!(picture.stage, Stage::Ready(_))
                && !asked.contains(&PictureName::Image(picture.id.clone()))
        })
    }

    /// How many pictures there are, if one can go, and when that was used, by the server's count of uses.
    pub fn eviction_candidate(&self, waits: Waits<'_>) -> Option<(u64, u64)> {
        let spare = self.oldest_unneeded(waits)?;
        Some((self.list.live().0, spare.used))
    }

    /// Lets go of it; false if there is none.
    pub fn evict_oldest(&mut self, waits: Waits<'_>, context: &mut Context) -> bool {
        let Some(oldest) = self
            .oldest_unneeded(waits)
            .map(|picture| picture.id.clone())
        else {
            return false;
        };
        self.let_go(&oldest, context);
        true
    }

    /// Whether a picture comes only if its client goes on to send it.
    pub fn waits_for_client(&self, name: &PictureName, now: Instant) -> bool {
        /// An upload of which nothing comes for so long may never come to its end.
        const PAUSE: Duration = Duration::from_secs(1);
        match self.resolve(name) {
            PictureName::Upload(upload) => !self.uploads.moves(upload, PAUSE, now),
            PictureName::Image(_) => false,
        }
    }

    /// Whether a picture takes memory and can be asked about.
    pub fn is_live(&self, image: &str) -> bool {
        self.list.get(image).is_some_and(Picture::is_live)
    }

    /// A question is asked about it just now.
    pub fn touch(&mut self, name: &PictureName, used: u64) {
        if let PictureName::Image(image) = self.resolve(name)
            && let Some(picture) = self.list.get_mut(&image)
        {
            picture.used = used;
        }
    }

    /// The image id behind a name, once its upload arrived.
    pub fn resolve(&self, name: &PictureName) -> PictureName {
        match name {
            PictureName::Upload(upload) => match self.outcomes.get(upload) {
                Some(Outcome::Image(image)) => PictureName::Image(image.clone()),
                _ => name.clone(),
            },
            PictureName::Image(_) => name.clone(),
        }
    }

    /// The system turn that a picture's upload announced; none before that has arrived.
    pub fn system(&self, name: &PictureName) -> Option<String> {
        match self.resolve(name) {
            PictureName::Upload(_) => None,
            PictureName::Image(image) => Some(self.list.get(&image)?.system.clone()),
        }
    }

    /// Whether two names are known to be of the same file: of one on its way counts what was announced.
    pub fn are_one(&self, one: &PictureName, other: &PictureName) -> bool {
        let content = self.content(one);
        self.resolve(one) == self.resolve(other)
            || (content.is_some() && content == self.content(other))
    }

    fn content(&self, name: &PictureName) -> Option<[u8; 32]> {
        match self.resolve(name) {
            PictureName::Upload(upload) => self.uploads.announced_sha256(upload),
            PictureName::Image(image) => Some(self.list.get(&image)?.key.sha256),
        }
    }

    /// How the picture of a name stands.
    pub fn look_up(&self, name: &PictureName) -> LookUp {
        let unusable = |code, message: String| LookUp::Unusable(Failure::new(code, message));
        match self.resolve(name) {
            PictureName::Upload(upload) => match self.outcomes.get(&upload) {
                Some(Outcome::Failed(code)) => unusable(
                    *code,
                    format!("Upload {upload} failed ({code}): send the picture again."),
                ),
                _ if self.uploads.is_open(upload) => LookUp::Pending,
                _ => unusable(
                    ErrorCode::UnknownUpload,
                    format!("This session has no upload {upload}: send its upload message first."),
                ),
            },
            PictureName::Image(image) => match self.list.get(&image) {
                None => unusable(
                    ErrorCode::UnknownImage,
                    format!("This session has no picture {image:?}: upload it again."),
                ),
                Some(picture) => match &picture.stage {
                    Stage::Decoding => LookUp::Pending,
                    Stage::Ready(ready) => LookUp::Ready(Shown {
                        key: picture.key,
                        shape: (ready.side, ready.side),
                        // Whenever a question named it, the conversation begins with it.
                        turn: 0,
                    }),
                    Stage::Failed(failure) => LookUp::Unusable(failure.clone()),
                    Stage::Leaving | Stage::Gone => unusable(
                        ErrorCode::ImageGone,
                        "The picture was forgotten: upload it again.".into(),
                    ),
                },
            },
        }
    }
}

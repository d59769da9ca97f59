//! Requests that may arrive twice and are to be done once.

use obfleet_engine::{EngineError, Submission, TaskView};

use crate::{Error, Fleet};

/// What tells a repetition from another request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The client's key, bound to user and route.
    pub token: String,
    /// Digest of the request.
    pub digest: String,
}

impl Once {
    /// The one for a request's task number `index`.
    #[must_use]
    pub fn part(&self, index: usize) -> Self {
        let token = match index {
            0 => self.token.clone(),
            _ => format!("{}/{index}", self.token),
        };
        Self {
            token,
            digest: self.digest.clone(),
        }
    }

    /// Has the submission say which request it is of.
    pub fn mark<C>(once: Option<&Self>, submission: &mut Submission<C>) {
        submission.client_token = once.map(|once| once.token.clone());
        submission.request_digest = once.map(|once| once.digest.clone());
    }
}

impl Fleet {
    /// The task this request has made before.
    pub(crate) async fn made(&self, once: Option<&Once>) -> Result<Option<TaskView>, EngineError> {
        match once {
            Some(once) => self.engine().find(&once.token, &once.digest).await,
            None => Ok(None),
        }
    }

    /// Does `work` unless its task is there already. It may be planned on what a repetition has just changed and be
    /// refused for that, so a refusal is a reason to look again.
    pub(crate) async fn first_time(
        &self,
        once: Option<&Once>,
        work: impl Future<Output = Result<TaskView, Error>>,
    ) -> Result<TaskView, Error> {
        if let Some(made) = self.made(once).await? {
            return Ok(made);
        }
        match work.await {
            Ok(task) => Ok(task),
            Err(error) => self.made(once).await?.ok_or(error),
        }
    }
}

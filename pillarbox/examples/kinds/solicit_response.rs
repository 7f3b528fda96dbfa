//! Solicit-response: sent, waited for, and ended together with its answer in one step. Anybody reads that by the number of
//! the delivery, also after a restart.

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::adapter::Requester;
use pillarbox::store::Answer;

use super::wire;

#[derive(Debug)]
pub(crate) struct SolicitResponse;

impl Transport for SolicitResponse {
    fn describe(&self) -> TransportInfo {
        wire::info("solicit-response", Shape::SolicitResponse)
    }
}

#[async_trait]
impl Requester for SolicitResponse {
    async fn request(&self, message: &Outgoing) -> Result<Option<Answer>, SendError> {
        wire::send(message)?;
        let answer = Answer::new(format!("got {} bytes", message.body().len()));
        answer.map(Some).map_err(|error| SendError::permanent("no good answer").caused_by(error))
    }
}

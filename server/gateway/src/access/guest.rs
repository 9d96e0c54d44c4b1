//! Somebody who has a session, or wants one.

use std::sync::Arc;
use std::time::Instant;

use api::Failure;

use super::guests::{Guests, Record, crowded, limited};
use super::keys::GuestLimits;
use super::permit::ConnectionPermit;
use crate::intake::{Client, KeyId};

/// What somebody comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A session over a WebSocket, of which there may be so many new ones a minute.
    Session,
    /// The answer to one request.
    Request,
}

/// Somebody who has a session, or wants one.
pub struct Guest {
    visit: Visit,
    guests: Arc<Guests>,
    place: Option<Arc<ConnectionPermit>>,
    client: Client,
    /// Whose limits on questions hold.
    who: Vec<Client>,
    /// As one of whose connections it is counted.
    key: Option<Client>,
}

impl Guest {
    pub(super) fn new(
        guests: Arc<Guests>,
        place: Option<Arc<ConnectionPermit>>,
        client: Client,
        visit: Visit,
    ) -> Self {
        Guest {
            visit,
            guests,
            place,
            client,
            who: Vec::new(),
            key: None,
        }
    }

    /// All who are connected.
    pub fn guests(&self) -> &Arc<Guests> {
        &self.guests
    }

    /// The client whose share of the server the connection's sessions count against: its API key, or without one its address.
    pub fn client(&self) -> Client {
        self.client
    }

    /// The key was right: its own limits count too, and its share is taken from here on.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn identify(&mut self, owner: KeyId) -> Result<(), Failure> {
        self.client = Client::Key(owner);
        if let Some(limits) = self.guests.limits_of(owner) {
            self.join(self.client, limits, true)?;
            self.key = Some(self.client);
        }
        Ok(())
    }

    /// Until its connection is closed from its side.
    pub async fn gone(&self) {
        match &self.place {
            Some(place) => place.gone().await,
            None => std::future::pending().await,
        }
    }

    /// Marks the guest's connection as one that has a session.
    pub fn settle(&self) {
        if let Some(place) = &self.place {
            place.settle();
        }
    }

    /// `count`: whether this is one of the client's connections that is not counted yet.
    pub(super) fn join(
        &mut self,
        who: Client,
        limits: GuestLimits,
        count: bool,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        let record = inner
            .records
            .entry(who)
            .or_insert_with(|| Record::new(limits, now));
        if count && record.is_full() {
            return Err(crowded());
        }
        if let Some(bucket) = &mut record.connects
            && self.visit == Visit::Session
        {
            bucket.take(now).map_err(|wait| {
                limited("There were too many connections from here in a short time: wait, then connect again.", wait)
            })?;
        }
        record.connections += u32::from(count);
        drop(inner);
        self.who.push(who);
        Ok(())
    }

    /// A question is asked.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn ask(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut inner = self.guests.inner.lock();
        for who in &self.who {
            if let Some(bucket) = inner
                .records
                .get_mut(who)
                .and_then(|record| record.asks.as_mut())
            {
                bucket.take(now).map_err(|wait| {
                    limited("There were too many questions from here in a short time: wait, then ask again.", wait)
                })?;
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.guests.inner.lock().release(key);
        }
    }
}

//! A request that is answered later keeps its connection.

use std::sync::Arc;

use actix_web::HttpRequest;

use crate::access::ConnectionPermit;

/// A request's use of its connection: as long as this lives, the connection's own time-outs hold still.
pub struct InUse(Option<Arc<ConnectionPermit>>);

impl InUse {
    pub fn begin(request: &HttpRequest) -> Self {
        let place = request.conn_data::<Arc<ConnectionPermit>>().cloned();
        if let Some(place) = &place {
            place.set_in_use(true);
        }
        InUse(place)
    }

    /// The connection, if the request came over one.
    pub fn place(&self) -> Option<Arc<ConnectionPermit>> {
        self.0.clone()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            place.set_in_use(false);
        }
    }
}

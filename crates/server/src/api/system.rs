//! The server itself.

use obfleet_wire::time::Timestamp;

/// `GET /api/v2/time`: the server's clock as plain text, without a login. Clients use it as a sign of life.
pub async fn time() -> String {
    Timestamp::now().to_string()
}

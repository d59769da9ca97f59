-- Browsers that are logged in. id is the SHA-256 of what the browser has, so that it is of no use to who reads this.
CREATE TABLE browser_session (
    id      VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id BIGINT      NOT NULL,
    created BIGINT      NOT NULL,
    seen    BIGINT      NOT NULL
);
CREATE INDEX browser_session_of_user ON browser_session (user_id, created);
CREATE INDEX browser_session_by_age ON browser_session (seen);

-- Keys by which programs sign their requests. The secret is sealed: to check a signature takes the secret itself.
CREATE TABLE access_keys (
    access_key    VARCHAR(32)  NOT NULL PRIMARY KEY,
    user_id       BIGINT       NOT NULL,
    secret        VARCHAR(255) NOT NULL,
    enabled       BOOLEAN      NOT NULL,
    description   VARCHAR(255) NOT NULL,
    created       BIGINT       NOT NULL
);
CREATE INDEX access_keys_of_user ON access_keys (user_id, created);
-- Signatures of changes that were let in, until nobody would let them in any more for their age. id is a digest.
CREATE TABLE used_signatures (
    id      VARCHAR(64) NOT NULL PRIMARY KEY,
    expires BIGINT      NOT NULL
);
CREATE INDEX used_signatures_by_age ON used_signatures (expires);

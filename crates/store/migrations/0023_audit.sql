-- What was changed, by whom: each record has the digest of the one before it in its own. detail is JSON.
CREATE TABLE audit_record (
    seq        BIGINT        NOT NULL PRIMARY KEY,
    at         BIGINT        NOT NULL,
    user_id    BIGINT,
    user_name  VARCHAR(255),
    address    VARCHAR(64)   NOT NULL,
    right_name VARCHAR(64),
    method     VARCHAR(16)   NOT NULL,
    path       VARCHAR(1024) NOT NULL,
    status     BIGINT        NOT NULL,
    trace_id   VARCHAR(64)   NOT NULL,
    detail     MEDIUMTEXT    NOT NULL,
    previous   VARCHAR(64)   NOT NULL,
    hash       VARCHAR(64)   NOT NULL
);

CREATE INDEX audit_record_user ON audit_record (user_name, seq);

-- The newest record's number and digest, so that no two records follow the same one.
CREATE TABLE audit_head (
    only_row BIGINT      NOT NULL PRIMARY KEY,
    seq      BIGINT      NOT NULL,
    hash     VARCHAR(64) NOT NULL
);

INSERT INTO audit_head (only_row, seq, hash) VALUES (1, 0, '');

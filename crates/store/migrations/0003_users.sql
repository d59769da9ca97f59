-- People and programs that may log in. Password hashes are argon2id in PHC form; roles have commas between them.
CREATE TABLE users (
    id            BIGINT       NOT NULL PRIMARY KEY,
    name          VARCHAR(128) NOT NULL UNIQUE,
    password_hash VARCHAR(255) NOT NULL,
    roles         VARCHAR(255) NOT NULL,
    created       BIGINT       NOT NULL,
    changed       BIGINT       NOT NULL
);

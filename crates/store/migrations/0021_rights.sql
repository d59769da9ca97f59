-- Which roles users have, each for all proxy clusters (0) or for some. What users.roles says is read no more.
CREATE TABLE user_role (
    user_id    BIGINT      NOT NULL,
    role       VARCHAR(32) NOT NULL,
    cluster_id BIGINT      NOT NULL,
    PRIMARY KEY (user_id, role, cluster_id)
);
CREATE INDEX user_role_by_role ON user_role (role);
INSERT INTO user_role (user_id, role, cluster_id) SELECT id, 'ADMIN', 0 FROM users WHERE roles = 'ADMIN';
-- Roles that are not OCP's; rights have commas between them.
CREATE TABLE custom_role (
    name        VARCHAR(32)   NOT NULL PRIMARY KEY,
    description VARCHAR(255)  NOT NULL,
    rights      VARCHAR(1000) NOT NULL,
    created     BIGINT        NOT NULL,
    changed     BIGINT        NOT NULL
);
ALTER TABLE users ADD COLUMN enabled BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE users ADD COLUMN must_change BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE users ADD COLUMN description VARCHAR(255) NOT NULL DEFAULT '';
INSERT INTO id_sequence (name, next_id) VALUES ('user', 1000);
-- Logins that failed, by the name that was given, whether or not it is somebody's.
CREATE TABLE login_failure (
    name         VARCHAR(128) NOT NULL PRIMARY KEY,
    failures     BIGINT       NOT NULL,
    last_at      BIGINT       NOT NULL,
    locked_until BIGINT       NOT NULL
);
CREATE INDEX login_failure_by_age ON login_failure (last_at);

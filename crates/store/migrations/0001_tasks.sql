-- Tasks: rows, edges, events, locks. Portable: ids made by the application, times as BIGINT milliseconds, JSON as MEDIUMTEXT
-- (MySQL's TEXT ends at 64 KiB).

-- Next free id per kind.
CREATE TABLE id_sequence (
    name    VARCHAR(64) NOT NULL PRIMARY KEY,
    next_id BIGINT      NOT NULL
);
INSERT INTO id_sequence (name, next_id) VALUES ('task', 1);
INSERT INTO id_sequence (name, next_id) VALUES ('subtask', 1);

-- rev: compare-and-set of every commit, and seq of the last event.
CREATE TABLE task_instance (
    id           BIGINT       NOT NULL PRIMARY KEY,
    rev          BIGINT       NOT NULL,
    name         VARCHAR(128) NOT NULL,
    type         VARCHAR(16)  NOT NULL,
    creator      VARCHAR(64)  NOT NULL,
    executor     VARCHAR(64)  NOT NULL,
    cluster_id   BIGINT,
    host_id      BIGINT,
    client_token VARCHAR(128) UNIQUE,
    context      MEDIUMTEXT   NOT NULL,
    state        VARCHAR(16)  NOT NULL,
    operation    VARCHAR(16)  NOT NULL,
    outcome      VARCHAR(16),
    create_time  BIGINT       NOT NULL,
    end_time     BIGINT
);
CREATE INDEX task_instance_state ON task_instance (state);
CREATE INDEX task_instance_cluster ON task_instance (cluster_id);
CREATE INDEX task_instance_host ON task_instance (host_id);

-- spec: what is frozen at submit (name, class name, timeout, policies). epoch: the fence of an attempt.
CREATE TABLE subtask_instance (
    id                BIGINT      NOT NULL PRIMARY KEY,
    task_id           BIGINT      NOT NULL,
    series_id         BIGINT      NOT NULL,
    spec              MEDIUMTEXT  NOT NULL,
    state             VARCHAR(16) NOT NULL,
    operation         VARCHAR(16) NOT NULL,
    run_time          BIGINT      NOT NULL,
    epoch             BIGINT      NOT NULL,
    crash_count       BIGINT      NOT NULL,
    undo_tries        BIGINT      NOT NULL,
    owner_server      VARCHAR(64),
    owner_incarnation VARCHAR(64),
    executor          VARCHAR(64),
    deadline_at       BIGINT,
    not_before        BIGINT,
    ready_from        VARCHAR(16),
    start_time        BIGINT,
    end_time          BIGINT,
    ctx_delta         MEDIUMTEXT  NOT NULL,
    checkpoint        MEDIUMTEXT  NOT NULL,
    failure           MEDIUMTEXT
);
CREATE UNIQUE INDEX subtask_instance_series ON subtask_instance (task_id, series_id);

CREATE TABLE subtask_dependencies (
    task_id   BIGINT NOT NULL,
    parent_id BIGINT NOT NULL,
    child_id  BIGINT NOT NULL,
    PRIMARY KEY (task_id, parent_id, child_id)
);

-- Append only; folded in order of seq the events of a task give its rows. nonce: random per commit, to find it again by when
-- its answer was lost.
CREATE TABLE task_event (
    task_id     BIGINT      NOT NULL,
    seq         BIGINT      NOT NULL,
    at          BIGINT      NOT NULL,
    kind        VARCHAR(32) NOT NULL,
    subtask_id  BIGINT,
    server      VARCHAR(64) NOT NULL,
    incarnation VARCHAR(64) NOT NULL,
    nonce       BIGINT      NOT NULL,
    payload     MEDIUMTEXT  NOT NULL,
    PRIMARY KEY (task_id, seq)
);

-- Held from submit until the task is over. exclusive: 1 or 0.
CREATE TABLE resource_lock (
    kind      VARCHAR(64)  NOT NULL,
    name      VARCHAR(128) NOT NULL,
    task_id   BIGINT       NOT NULL,
    exclusive BIGINT       NOT NULL,
    PRIMARY KEY (kind, name, task_id)
);
CREATE INDEX resource_lock_task ON resource_lock (task_id);

-- The process that runs under each server's name.
CREATE TABLE engine_server (
    server      VARCHAR(64) NOT NULL PRIMARY KEY,
    incarnation VARCHAR(64) NOT NULL,
    started_at  BIGINT      NOT NULL
);

-- undo_on_failure: the task goes back by itself when a step fails.
ALTER TABLE task_instance ADD COLUMN undo_on_failure BOOLEAN NOT NULL DEFAULT FALSE;

-- What was set after a cluster was made: proxy_id is 0 for all of the cluster. Proxies with a lower version lack it.
CREATE TABLE wanted_parameter (
    cluster_id BIGINT NOT NULL,
    proxy_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL,
    value MEDIUMTEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (cluster_id, proxy_id, name)
);

-- The configuration of each proxy as it was last read, as JSON.
CREATE TABLE proxy_config (
    proxy_id BIGINT NOT NULL PRIMARY KEY,
    digest VARCHAR(64) NOT NULL,
    version VARCHAR(64) NOT NULL,
    read_at BIGINT NOT NULL,
    config MEDIUMTEXT NOT NULL
);

-- What the proxies of a version say of their items, as JSON.
CREATE TABLE proxy_item (
    version VARCHAR(64) NOT NULL PRIMARY KEY,
    items MEDIUMTEXT NOT NULL
);

-- What was changed, as JSON. It outlives the task.
CREATE TABLE parameter_change (
    task_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    cluster_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL,
    changed_at BIGINT NOT NULL,
    details MEDIUMTEXT NOT NULL,
    PRIMARY KEY (task_id, number)
);

CREATE INDEX parameter_change_cluster ON parameter_change (cluster_id);

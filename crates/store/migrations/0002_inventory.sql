-- One row.
CREATE TABLE installation (
    only_row BIGINT NOT NULL PRIMARY KEY,
    id VARCHAR(32) NOT NULL,
    era BIGINT NOT NULL,
    next_id BIGINT NOT NULL,
    key_fingerprint VARCHAR(64)
);

CREATE TABLE host (
    id BIGINT NOT NULL PRIMARY KEY,
    host_uid VARCHAR(64) NOT NULL UNIQUE,
    facts MEDIUMTEXT NOT NULL,
    address VARCHAR(255) NOT NULL,
    agent_port INTEGER NOT NULL,
    agent_version VARCHAR(64) NOT NULL,
    online BOOLEAN NOT NULL,
    reserved BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE obproxy_cluster (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL,
    address VARCHAR(255),
    port INTEGER,
    work_mode VARCHAR(16) NOT NULL,
    settings MEDIUMTEXT NOT NULL,
    parameter_version BIGINT NOT NULL,
    version VARCHAR(64),
    creator_id BIGINT NOT NULL,
    creator_name VARCHAR(64) NOT NULL,
    deleted BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX obproxy_cluster_name ON obproxy_cluster (name);

CREATE TABLE obproxy_server (
    id BIGINT NOT NULL PRIMARY KEY,
    cluster_id BIGINT NOT NULL,
    host_id BIGINT NOT NULL,
    version VARCHAR(64) NOT NULL,
    sql_port INTEGER NOT NULL,
    exporter_port INTEGER NOT NULL,
    rpc_port INTEGER,
    status VARCHAR(32) NOT NULL,
    operate_status VARCHAR(16) NOT NULL,
    parameter_version BIGINT NOT NULL,
    exporter_registered BOOLEAN NOT NULL,
    last_active_at BIGINT,
    deleted BOOLEAN NOT NULL
);

CREATE INDEX obproxy_server_cluster ON obproxy_server (cluster_id);

CREATE INDEX obproxy_server_host ON obproxy_server (host_id);

CREATE TABLE software_package (
    id BIGINT NOT NULL PRIMARY KEY,
    file_name VARCHAR(255) NOT NULL UNIQUE,
    is_proxy BOOLEAN NOT NULL,
    size BIGINT NOT NULL,
    sha1 VARCHAR(40) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE enrol_token (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    proof_key VARCHAR(64) NOT NULL,
    expires_at BIGINT NOT NULL,
    used BOOLEAN NOT NULL
);

-- OceanBase clusters. No cluster_id parameter is 0, so that those of one name are told apart by it.
CREATE TABLE ob_cluster (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(128) NOT NULL,
    ob_cluster_id BIGINT NOT NULL,
    cluster_type VARCHAR(16) NOT NULL,
    root_servers MEDIUMTEXT NOT NULL,
    proxyro_password MEDIUMTEXT,
    account MEDIUMTEXT,
    creator_id BIGINT NOT NULL,
    creator_name VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (name, ob_cluster_id)
);

-- Which proxy clusters serve them.
CREATE TABLE ob_link (
    cluster_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL,
    ob_cluster BIGINT NOT NULL,
    username VARCHAR(64) NOT NULL,
    status VARCHAR(16) NOT NULL,
    told BOOLEAN NOT NULL,
    PRIMARY KEY (cluster_id, name)
);

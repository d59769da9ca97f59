-- Where hosts are, and what kind they are. Hosts that name nothing else are in those with id 1.
CREATE TABLE region (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL UNIQUE,
    description VARCHAR(512),
    created_at BIGINT,
    updated_at BIGINT
);

INSERT INTO region (id, name) VALUES (1, 'default');

CREATE TABLE idc (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL UNIQUE,
    description VARCHAR(512),
    region_id BIGINT NOT NULL,
    created_at BIGINT,
    updated_at BIGINT
);

INSERT INTO idc (id, name, region_id) VALUES (1, 'default', 1);

CREATE TABLE host_type (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL UNIQUE,
    description VARCHAR(512),
    created_at BIGINT,
    updated_at BIGINT
);

INSERT INTO host_type (id, name) VALUES (1, 'default');

-- What people say of a host.
ALTER TABLE host ADD COLUMN alias VARCHAR(255);
ALTER TABLE host ADD COLUMN description VARCHAR(512);
ALTER TABLE host ADD COLUMN idc_id BIGINT NOT NULL DEFAULT 1;
ALTER TABLE host ADD COLUMN type_id BIGINT NOT NULL DEFAULT 1;
ALTER TABLE host ADD COLUMN kind VARCHAR(32) NOT NULL DEFAULT 'DEDICATED_PHYSICAL_MACHINE';
ALTER TABLE host ADD COLUMN publish_ports VARCHAR(1024);
ALTER TABLE host ADD COLUMN serial_number VARCHAR(255);
ALTER TABLE host ADD COLUMN ssh_port INTEGER;

-- How far it is between being added and being gone; and how its agent was put on it, as JSON, if the server did that.
ALTER TABLE host ADD COLUMN stage VARCHAR(16) NOT NULL DEFAULT 'READY';
ALTER TABLE host ADD COLUMN bootstrap MEDIUMTEXT;
ALTER TABLE host ADD COLUMN deleted BOOLEAN NOT NULL DEFAULT FALSE;

-- What a token says of the host that will use it; host_id when it is for one that is known.
ALTER TABLE enrol_token ADD COLUMN host_id BIGINT;
ALTER TABLE enrol_token ADD COLUMN idc_id BIGINT NOT NULL DEFAULT 1;
ALTER TABLE enrol_token ADD COLUMN type_id BIGINT NOT NULL DEFAULT 1;

-- How to log in to hosts. Secrets are sealed.
CREATE TABLE credential (
    id BIGINT NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    name VARCHAR(128) NOT NULL,
    description VARCHAR(512),
    login VARCHAR(16) NOT NULL,
    username VARCHAR(64) NOT NULL,
    secret MEDIUMTEXT NOT NULL,
    key_passphrase MEDIUMTEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX credential_name ON credential (user_id, name);

-- The host key each SSH server is known by.
CREATE TABLE ssh_host_key (
    address VARCHAR(255) NOT NULL,
    port INTEGER NOT NULL,
    fingerprint VARCHAR(128) NOT NULL,
    PRIMARY KEY (address, port)
);

-- Sealed passwords of root@proxysys of proxies that are being taken over, until they have their cluster's.
CREATE TABLE take_over_password (
    proxy_id BIGINT NOT NULL PRIMARY KEY,
    password MEDIUMTEXT NOT NULL
);

-- What befell hosts and proxies, as far as no task did it. detail is JSON.
CREATE TABLE fleet_event (
    id         BIGINT      NOT NULL PRIMARY KEY,
    at         BIGINT      NOT NULL,
    kind       VARCHAR(32) NOT NULL,
    host_id    BIGINT      NOT NULL,
    proxy_id   BIGINT,
    cluster_id BIGINT,
    detail     MEDIUMTEXT  NOT NULL
);

CREATE INDEX fleet_event_at ON fleet_event (at);
CREATE INDEX fleet_event_host ON fleet_event (host_id, at);
CREATE INDEX fleet_event_proxy ON fleet_event (proxy_id, at);
CREATE INDEX fleet_event_cluster ON fleet_event (cluster_id, at);

-- How often the agent has started a proxy again, and why the last time did not help, as far as events tell of it.
ALTER TABLE obproxy_server ADD COLUMN restarts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE obproxy_server ADD COLUMN start_trouble VARCHAR(2048);

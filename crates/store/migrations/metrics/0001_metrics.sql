-- What was measured of proxies, in a file of its own beside a database that is a file. figures is JSON: a number for each key.
CREATE TABLE metric_sample (
    proxy_id BIGINT     NOT NULL,
    at       BIGINT     NOT NULL,
    figures  MEDIUMTEXT NOT NULL,
    PRIMARY KEY (proxy_id, at)
);

-- Hours since the epoch, summed up; figures has sixty numbers for each key, one a minute.
CREATE TABLE metric_hour (
    proxy_id BIGINT     NOT NULL,
    hour     BIGINT     NOT NULL,
    figures  MEDIUMTEXT NOT NULL,
    PRIMARY KEY (proxy_id, hour)
);

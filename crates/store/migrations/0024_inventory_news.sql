-- How often the inventory has changed, and what changed then: a server that has read it once reads only that. A row is of one
-- change: what kind of thing has changed, and its id.
CREATE TABLE inventory_revision (
    only_row BIGINT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);

INSERT INTO inventory_revision (only_row, revision) VALUES (1, 0);

CREATE TABLE inventory_news (
    revision BIGINT      NOT NULL,
    number   BIGINT      NOT NULL,
    kind     VARCHAR(16) NOT NULL,
    thing    BIGINT      NOT NULL,
    PRIMARY KEY (revision, number)
);

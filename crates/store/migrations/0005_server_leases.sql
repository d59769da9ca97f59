-- Leases: which process may change tasks under each server's name, and until when, in microseconds of the database's clock.
ALTER TABLE engine_server ADD COLUMN lease_expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE engine_server ADD COLUMN version VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE engine_server ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE engine_server ADD COLUMN url VARCHAR(255);

-- What is due, and what is under way.
CREATE INDEX subtask_instance_state ON subtask_instance (state, not_before);

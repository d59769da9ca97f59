-- request_digest: of the request that came with client_token. halt: PAUSED or CANCELING while RUNNING.
ALTER TABLE task_instance ADD COLUMN request_digest VARCHAR(64);
ALTER TABLE task_instance ADD COLUMN halt VARCHAR(16);
CREATE INDEX task_instance_end ON task_instance (end_time);

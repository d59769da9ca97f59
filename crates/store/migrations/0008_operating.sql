-- When a task or an operator last said how a proxy is: what was seen of it before that is out of date.
ALTER TABLE obproxy_server ADD COLUMN status_at BIGINT NOT NULL DEFAULT 0;
-- Whether load balancers are told to keep away.
ALTER TABLE obproxy_server ADD COLUMN offline BOOLEAN NOT NULL DEFAULT FALSE;

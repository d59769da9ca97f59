-- Attempts' logs, in a file of their own beside a database that is a file. epoch tells attempts apart, also a run from its undo.
CREATE TABLE subtask_log (
    subtask_id BIGINT      NOT NULL,
    epoch      BIGINT      NOT NULL,
    seq        BIGINT      NOT NULL,
    task_id    BIGINT      NOT NULL,
    operation  VARCHAR(16) NOT NULL,
    run_time   BIGINT      NOT NULL,
    at         BIGINT      NOT NULL,
    content    MEDIUMTEXT  NOT NULL,
    PRIMARY KEY (subtask_id, epoch, seq)
);

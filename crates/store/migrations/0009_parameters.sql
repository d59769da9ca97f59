-- undo_on_failure: the task goes back by itself when a step fails.
ALTER TABLE task_instance ADD COLUMN undo_on_failure BOOLEAN NOT NULL DEFAULT FALSE;

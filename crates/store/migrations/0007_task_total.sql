-- Tasks that were deleted, so that nobody has to count those that are left: ids are given without gaps.
INSERT INTO id_sequence (name, next_id)
    SELECT 'pruned_task', t.next_id - 1 - (SELECT COUNT(*) FROM task_instance) FROM id_sequence t WHERE t.name = 'task';

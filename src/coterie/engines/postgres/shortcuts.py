"""The SQL of what most batches are: one put with at most a check of its own key, appends to one partition.

They do what `apply` and `append` in `functions.py` do, under the same locks, in half the time: values come as
they are and not in arrays, and there are few statements and expressions. PL/pgSQL prepares each of these anew
in every transaction, which a batch of one has nobody to share with.
"""

from __future__ import annotations

__all__ = ["APPEND_HERE", "PUT"]

# `p_version` is the version that the key must be at, 0 for a key that must not be there, NULL for any.
# The revision is raised first, since that takes the lock, and lowered if the check fails.
PUT = """
CREATE FUNCTION @.put(p_session text, p_batch bigint, p_keep bigint,
  p_key text, p_version bigint, p_value bytea,
  OUT o_code bigint, OUT o_number bigint, OUT o_revision bigint) LANGUAGE plpgsql AS $body$
BEGIN
  {safe}
  UPDATE @.meta SET revision = revision + 1 WHERE expires > clock_timestamp() AND (revision + 1) % 512 <> 0
    RETURNING 0, revision, revision INTO o_code, o_number, o_revision;
  IF NOT FOUND THEN
    -- A lease is due, or old history.
    SELECT a.o_codes[1], a.o_numbers[1], a.o_revision INTO o_code, o_number, o_revision
      FROM @.apply(p_session, p_batch, p_keep,
        ARRAY[CASE WHEN p_version IS NULL THEN 10 ELSE 1 END, 4, 0]::smallint[], ARRAY[p_key, p_key, NULL],
        ARRAY[p_version, 0, NULL], ARRAY[NULL, p_value, NULL]) AS a;
    RETURN;
  END IF;
  IF p_version > 0 THEN
    UPDATE @.kv SET value = p_value, version = o_revision, lease = 0
      WHERE key = p_key AND version = p_version;
  ELSE
    INSERT INTO @.kv AS k VALUES (p_key, p_value, o_revision, 0) ON CONFLICT (key) DO UPDATE
      SET value = excluded.value, version = excluded.version, lease = 0 WHERE p_version IS NULL;
  END IF;
  IF FOUND THEN
    WITH change AS (INSERT INTO @.changes VALUES (o_revision, p_key, p_value))
    UPDATE @.sessions SET batch = p_batch, codes = '{0}', numbers = ARRAY[o_number], revision = o_revision,
      seen = clock_timestamp() WHERE id = p_session AND batch < p_batch;
  ELSE
    UPDATE @.meta SET revision = revision - 1 RETURNING 1, revision INTO o_code, o_revision;
    o_number := coalesce((SELECT version FROM @.kv WHERE key = p_key), 0);
    UPDATE @.sessions SET batch = p_batch, codes = '{1}', numbers = ARRAY[o_number], revision = o_revision,
      seen = clock_timestamp() WHERE id = p_session AND batch < p_batch;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % of % was applied before', p_batch, p_session USING ERRCODE = 'CT001';
  END IF;
END $body$;
"""

# The answer is the offset of the first record, or with the code 1 how many partitions the topic has.
APPEND_HERE = """
CREATE FUNCTION @.append_here(p_session text, p_batch bigint,
  p_topic text, p_partition int, p_records bytea[],
  OUT o_code bigint, OUT o_number bigint, OUT o_revision bigint) LANGUAGE plpgsql AS $body$
DECLARE
  v_topic bigint;
BEGIN
  {safe}
  UPDATE @.bounds b SET next = b.next + cardinality(p_records) FROM @.topics t
    WHERE t.name = p_topic AND b.topic = t.id AND b.partition = p_partition
    RETURNING t.id, 0, b.next - cardinality(p_records), 0 INTO v_topic, o_code, o_number, o_revision;
  IF FOUND THEN
    WITH added AS (INSERT INTO @.records
      SELECT v_topic, p_partition, o_number + r.ordinal - 1, date_part('epoch', clock_timestamp()), r.record
      FROM unnest(p_records) WITH ORDINALITY AS r (record, ordinal))
    UPDATE @.sessions SET batch = p_batch, codes = '{0}', numbers = ARRAY[o_number], revision = 0,
      seen = clock_timestamp() WHERE id = p_session AND batch < p_batch;
  ELSE
    SELECT 1, coalesce((SELECT partitions FROM @.topics WHERE name = p_topic), 0), 0
      INTO o_code, o_number, o_revision;
    UPDATE @.sessions SET batch = p_batch, codes = '{1}', numbers = ARRAY[o_number], revision = 0,
      seen = clock_timestamp() WHERE id = p_session AND batch < p_batch;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % of % was applied before', p_batch, p_session USING ERRCODE = 'CT001';
  END IF;
END $body$;
"""

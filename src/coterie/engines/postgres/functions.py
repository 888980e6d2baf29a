"""The SQL of the engine: its tables, and the functions that apply a batch in one round trip.

All writes of keys lock the one row of `meta` first, so commits have one order, in which revisions rise,
and whoever sees one sees all before it. The functions rely on READ COMMITTED, where each of their
statements sees what was committed before it began; at stricter levels the lock fails with a
serialization error instead, and the batch is tried again.

A batch has a number, recorded with what it answered in the row of its session. A batch that is sent again
because its answer was lost finds the number there, rolls itself back with SQLSTATE CT001, and the recorded
answer is read instead: so it is applied once.
"""

from __future__ import annotations

from .shortcuts import APPEND_HERE, PUT

__all__ = ["FORMAT", "KIND", "SCHEMA"]

FORMAT = 2
"""The version of the tables and functions; one that is newer is refused."""


class KIND:
    """What a step of a batch does. `END` closes one operation."""

    END, CHECK, FENCE, ALIVE, PUT, DELETE, TOKEN, GRANT, RENEW, REVOKE, EXPIRE = range(11)


_TABLES = """
CREATE TABLE @.meta (one boolean PRIMARY KEY DEFAULT true CHECK (one), format int NOT NULL,
  revision bigint NOT NULL, floor bigint NOT NULL, next_lease bigint NOT NULL,
  expires timestamptz NOT NULL) WITH (fillfactor = 50);
CREATE TABLE @.kv (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, version bigint NOT NULL,
  lease bigint NOT NULL) WITH (fillfactor = 80);
CREATE INDEX kv_lease ON @.kv (lease) WHERE lease <> 0;
CREATE TABLE @.changes (revision bigint, key text COLLATE "C", value bytea, PRIMARY KEY (revision, key));
CREATE TABLE @.fences (name text COLLATE "C" PRIMARY KEY, token bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE @.leases (id bigint PRIMARY KEY, ttl_us bigint NOT NULL, ends timestamptz NOT NULL)
  WITH (fillfactor = 50);
CREATE TABLE @.sessions (id text PRIMARY KEY, batch bigint NOT NULL, codes bigint[], numbers bigint[],
  revision bigint, seen timestamptz NOT NULL) WITH (fillfactor = 50);
CREATE TABLE @.topics (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE, partitions int NOT NULL);
CREATE TABLE @.bounds (topic bigint, partition int, first bigint NOT NULL, next bigint NOT NULL,
  PRIMARY KEY (topic, partition)) WITH (fillfactor = 50);
CREATE TABLE @.records (topic bigint, partition int, number bigint, time double precision NOT NULL,
  record bytea NOT NULL, PRIMARY KEY (topic, partition, number));
INSERT INTO @.meta VALUES (true, {format}, 0, 0, 1, 'infinity');
"""

# `synchronous_commit = off` would acknowledge what is not on the disk; it is mended for this transaction.
_SAFE = """
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
"""

_END_LEASE = """
CREATE FUNCTION @.end_lease(p_lease bigint, p_revision bigint) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
  v_gone bigint;
BEGIN
  DELETE FROM @.leases WHERE id = p_lease;
  WITH gone AS (DELETE FROM @.kv WHERE lease = p_lease AND lease <> 0 RETURNING key)
  INSERT INTO @.changes SELECT p_revision + 1, key, NULL FROM gone;
  GET DIAGNOSTICS v_gone = ROW_COUNT;
  RETURN p_revision + (v_gone > 0)::int;
END $body$;
"""

# An operation's code is 0, or which step of the batch failed, counted from 1. Its number is the revision, the
# lease that was granted, or what a failed step found.
_APPLY = """
CREATE FUNCTION @.apply(p_session text, p_batch bigint, p_keep bigint,
  p_kinds smallint[], p_names text[], p_numbers bigint[], p_data bytea[],
  OUT o_codes bigint[], OUT o_numbers bigint[], OUT o_revision bigint) LANGUAGE plpgsql AS $body$
DECLARE
  v_meta record;
  v_step record;
  v_now timestamptz;
  v_revision bigint;
  v_lease bigint;
  v_expires timestamptz;
  v_code bigint := 0;
  v_number bigint;
  v_found bigint;
  v_wrote boolean := false;
  v_at bigint := 0;
BEGIN
  {safe}
  SELECT * INTO STRICT v_meta FROM @.meta FOR UPDATE;
  v_now := clock_timestamp();
  v_revision := v_meta.revision;
  v_lease := v_meta.next_lease;
  v_expires := v_meta.expires;
  IF v_expires <= v_now THEN
    FOR v_step IN SELECT id FROM @.leases WHERE ends <= v_now ORDER BY ends, id LOOP
      v_revision := @.end_lease(v_step.id, v_revision);
    END LOOP;
    SELECT coalesce(min(ends), 'infinity') INTO v_expires FROM @.leases;
  END IF;
  FOR v_step IN SELECT s.kind, s.name, s.number, s.data
      FROM unnest(p_kinds, p_names, p_numbers, p_data) AS s (kind, name, number, data) LOOP
    v_at := v_at + 1;
    IF v_step.kind = 0 THEN
      IF v_wrote THEN
        v_revision := v_revision + 1;
      END IF;
      o_codes := o_codes || v_code;
      o_numbers := o_numbers || coalesce(v_number, v_revision);
      v_code := 0;
      v_number := NULL;
      v_wrote := false;
    ELSIF v_code <> 0 THEN
      CONTINUE;
    ELSIF v_step.kind = 4 THEN
      INSERT INTO @.kv AS k VALUES (v_step.name, v_step.data, v_revision + 1, v_step.number)
        ON CONFLICT (key) DO UPDATE
        SET value = excluded.value, version = excluded.version, lease = excluded.lease;
      INSERT INTO @.changes VALUES (v_revision + 1, v_step.name, v_step.data);
      v_wrote := true;
    ELSIF v_step.kind = 1 THEN
      SELECT version INTO v_found FROM @.kv WHERE key = v_step.name;
      v_found := coalesce(v_found, 0);
      IF v_found <> v_step.number THEN
        v_code := v_at;
        v_number := v_found;
      END IF;
    ELSIF v_step.kind = 5 THEN
      DELETE FROM @.kv WHERE key = v_step.name;
      IF FOUND THEN
        INSERT INTO @.changes VALUES (v_revision + 1, v_step.name, NULL);
        v_wrote := true;
      END IF;
    ELSIF v_step.kind = 2 THEN
      SELECT token INTO v_found FROM @.fences WHERE name = v_step.name;
      IF v_found > v_step.number THEN
        v_code := v_at;
        v_number := v_found;
      END IF;
    ELSIF v_step.kind = 6 THEN
      INSERT INTO @.fences AS f VALUES (v_step.name, v_step.number)
        ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token < excluded.token;
    ELSIF v_step.kind = 3 THEN
      PERFORM 1 FROM @.leases WHERE id = v_step.number;
      IF NOT FOUND THEN
        v_code := v_at;
        v_number := v_step.number;
      END IF;
    ELSIF v_step.kind = 7 THEN
      v_number := v_lease;
      v_lease := v_lease + 1;
      INSERT INTO @.leases
        VALUES (v_number, v_step.number, v_now + v_step.number * interval '1 microsecond');
      v_expires := least(v_expires, v_now + v_step.number * interval '1 microsecond');
    ELSIF v_step.kind = 8 THEN
      UPDATE @.leases SET ends = v_now + ttl_us * interval '1 microsecond' WHERE id = v_step.number;
      IF NOT FOUND THEN
        v_code := v_at;
        v_number := v_step.number;
      END IF;
    ELSIF v_step.kind = 9 THEN
      v_revision := @.end_lease(v_step.number, v_revision);
    END IF;
  END LOOP;
  IF v_revision / 512 <> v_meta.revision / 512 THEN
    v_meta.floor := greatest(v_meta.floor, v_revision - p_keep);
    DELETE FROM @.changes WHERE revision <= v_meta.floor;
  END IF;
  IF (v_revision, v_lease, v_expires) IS DISTINCT FROM (v_meta.revision, v_meta.next_lease, v_meta.expires)
  THEN
    UPDATE @.meta
      SET revision = v_revision, floor = v_meta.floor, next_lease = v_lease, expires = v_expires;
  END IF;
  o_revision := v_revision;
  UPDATE @.sessions SET batch = p_batch, codes = o_codes, numbers = o_numbers, revision = v_revision,
    seen = v_now WHERE id = p_session AND batch < p_batch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % of % was applied before', p_batch, p_session USING ERRCODE = 'CT001';
  END IF;
END $body$;
"""

# Each place is a partition with the number of records for it. The answer is the offset of the first one, or
# with the code 1, if there is no such place, the number of partitions that the topic has.
_APPEND = """
CREATE FUNCTION @.append(p_session text, p_batch bigint, p_topics text[], p_partitions int[],
  p_counts bigint[], p_places int[], p_ordinals bigint[], p_records bytea[],
  OUT o_codes bigint[], OUT o_numbers bigint[], OUT o_revision bigint) LANGUAGE plpgsql AS $body$
DECLARE
  v_place record;
  v_topic record;
  v_base bigint;
  v_topics bigint[];
  v_bases bigint[];
BEGIN
  {safe}
  FOR v_place IN SELECT w.topic, w.partition, w.count
      FROM unnest(p_topics, p_partitions, p_counts) AS w (topic, partition, count) LOOP
    SELECT id, partitions INTO v_topic FROM @.topics WHERE name = v_place.topic;
    v_base := NULL;
    UPDATE @.bounds SET next = next + v_place.count
      WHERE topic = v_topic.id AND partition = v_place.partition RETURNING next - v_place.count INTO v_base;
    v_topics := v_topics || v_topic.id;
    v_bases := v_bases || v_base;
    o_codes := o_codes || (v_base IS NULL)::int::bigint;
    o_numbers := o_numbers || coalesce(v_base, v_topic.partitions, 0);
  END LOOP;
  INSERT INTO @.records
    SELECT v_topics[r.place], p_partitions[r.place], v_bases[r.place] + r.ordinal,
      extract(epoch FROM clock_timestamp())::double precision, r.record
    FROM unnest(p_places, p_ordinals, p_records) AS r (place, ordinal, record)
    WHERE v_bases[r.place] IS NOT NULL;
  o_revision := 0;
  UPDATE @.sessions SET batch = p_batch, codes = o_codes, numbers = o_numbers, revision = 0,
    seen = clock_timestamp() WHERE id = p_session AND batch < p_batch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % of % was applied before', p_batch, p_session USING ERRCODE = 'CT001';
  END IF;
END $body$;
"""

_TOPICS = """
CREATE FUNCTION @.create_topic(p_name text, p_partitions int) RETURNS int LANGUAGE plpgsql AS $body$
DECLARE
  v_topic record;
BEGIN
  {safe}
  INSERT INTO @.topics (name, partitions) VALUES (p_name, p_partitions) ON CONFLICT (name) DO NOTHING
    RETURNING id INTO v_topic;
  IF FOUND THEN
    INSERT INTO @.bounds SELECT v_topic.id, p, 0, 0 FROM generate_series(0, p_partitions - 1) AS p;
  END IF;
  RETURN (SELECT partitions FROM @.topics WHERE name = p_name);
END $body$;

CREATE FUNCTION @.delete_topic(p_name text) RETURNS int LANGUAGE plpgsql AS $body$
DECLARE
  v_topic bigint;
BEGIN
  {safe}
  SELECT id INTO v_topic FROM @.topics WHERE name = p_name;
  -- The bounds first: whoever appends has locked them, and what was appended is deleted after that.
  DELETE FROM @.bounds WHERE topic = v_topic;
  DELETE FROM @.records WHERE topic = v_topic;
  DELETE FROM @.topics WHERE id = v_topic;
  RETURN 0;
END $body$;

CREATE FUNCTION @.trim_topic(p_name text, p_partition int, p_before bigint) RETURNS int
LANGUAGE plpgsql AS $body$
DECLARE
  v_topic record;
  v_first bigint;
BEGIN
  {safe}
  SELECT id, partitions INTO v_topic FROM @.topics WHERE name = p_name;
  IF NOT FOUND THEN
    RETURN -1;
  END IF;
  UPDATE @.bounds SET first = greatest(first, least(p_before, next))
    WHERE topic = v_topic.id AND partition = p_partition RETURNING first INTO v_first;
  IF NOT FOUND THEN
    RETURN v_topic.partitions;
  END IF;
  DELETE FROM @.records WHERE topic = v_topic.id AND partition = p_partition AND number < v_first;
  RETURN 0;
END $body$;
"""

SCHEMA = f"{_TABLES}{_END_LEASE}{_APPLY}{_APPEND}{_TOPICS}{PUT}{APPEND_HERE}".replace(
    "{safe}", _SAFE.strip()
).replace("{format}", str(FORMAT))
"""Everything that is made once, with `@` for the name of the schema."""

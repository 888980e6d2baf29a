"""What runs within the server: each operation is one Lua script, so that nothing comes between its steps.

Every script says `#!lua`, which has three effects that the engine rests on: a server that has become a
replica refuses it before its first step (also reads, which would be stale there), so does one that is out of
memory, and no script is left half done.

Times are microseconds of the server's clock. Numbers stay exact up to 2**53.

Layout, all below one prefix:

    rev       the revision of the last commit
    kv        hash: key -> "<version> <lease> <value>"
    keys      sorted set of the keys, all of score 0: Redis orders them by bytes, as UTF-8 orders code points
    fences    hash: name -> latest token, as 20 digits that order as the token does
    ends      sorted set: lease -> when it ends
    ttls      hash: lease -> its time in microseconds
    held      sorted set "<lease>/<key>" of the entries that vanish with a lease
    changes   stream: one entry a commit, its id is "<revision>-0", its fields "p<key>" with the value,
              "d<key>" for what is gone, or "x" alone when it is too large to keep
    topics    hash: topic -> "<number of partitions> <uid>"
    next      hash: "<uid>/<partition>" -> the offset of the next record
    appended  stream of "<uid>/<partition>", for those who wait for records
    ids       hash of counters
    log/<uid>/<partition>   stream: the id of a record is "<offset>-1"
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = [
    "APPEND",
    "BOUNDS",
    "COMMIT",
    "CREATE",
    "DELETE",
    "GET",
    "GRANT",
    "PROBE",
    "READ",
    "RENEW",
    "REVOKE",
    "SCAN",
    "SWEEP",
    "TOPICS",
    "TRIM",
    "Script",
]

_MAX_CHANGE_BYTES = 65_536
"""A commit of more bytes is not kept for watches: they read a snapshot instead."""

_MAX_PAGE_BYTES = 16 * 1024 * 1024
_MAX_CHANGES = 1024
"""And one of more keys, as when a lease with many entries ends."""

_PRELUDE = """#!lua
local p = KEYS[1]
local call = redis.call
local REV, KV, ORDER, FENCES = p..'rev', p..'kv', p..'keys', p..'fences'
local ENDS, TTLS, HELD, CHANGES = p..'ends', p..'ttls', p..'held', p..'changes'
local TOPICS, NEXT, APPENDED, IDS = p..'topics', p..'next', p..'appended', p..'ids'
local function text(number) return string.format('%.0f', number) end
local function now()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end
"""

_STORE = (
    _PRELUDE
    + f"""
local function publish(rev, keep, changes)
  local size = 0
  for _, part in ipairs(changes) do size = size + #part end
  if size > {_MAX_CHANGE_BYTES} or #changes > {2 * _MAX_CHANGES} then changes = {{'x', ''}} end
  call('XADD', CHANGES, 'MAXLEN', '~', keep, rev..'-0', unpack(changes))
end
local function finish(lease, keep)
  local held = call('ZRANGEBYLEX', HELD, '['..lease..'/', '('..lease..'0')
  local changes = {{}}
  if #held > 0 then
    local rev = text(call('INCR', REV))
    for _, each in ipairs(held) do
      local key = string.sub(each, #lease + 2)
      call('HDEL', KV, key)
      call('ZREM', ORDER, key)
      call('ZREM', HELD, each)
      changes[#changes + 1] = 'd'..key
      changes[#changes + 1] = ''
    end
    publish(rev, keep, changes)
  end
  call('ZREM', ENDS, lease)
  call('HDEL', TTLS, lease)
end
local function revision() return call('GET', REV) or '0' end
for _, lease in ipairs(call('ZRANGEBYSCORE', ENDS, '-inf', text(now()))) do finish(lease, ARGV[1]) end
"""
)

_LOG = (
    _PRELUDE
    + """
local function place()
  local known = call('HGET', TOPICS, ARGV[1])
  if not known then return nil, {'no topic'} end
  local count, uid = string.match(known, '^(%d+) (%d+)$')
  local partition = tonumber(ARGV[2])
  if partition < 0 or partition >= tonumber(count) then return nil, {'no partition', count} end
  local name = uid..'/'..ARGV[2]
  return name, nil, p..'log/'..name, uid
end
local function bounds(name, stream)
  local following = call('HGET', NEXT, name) or '0'
  local oldest = call('XRANGE', stream, '-', '+', 'COUNT', 1)
  if #oldest == 0 then return following, following end
  return string.match(oldest[1][1], '^(%d+)'), following
end
"""
)


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that the server knows it by."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


GET = Script(_STORE + "return call('HGET', KV, ARGV[2])")

SCAN = Script(
    _STORE
    + f"""
local limit = tonumber(ARGV[4])
local keys = call('ZRANGEBYLEX', ORDER, ARGV[2], ARGV[3], 'LIMIT', 0, limit)
local rows, size, more = {{}}, 0, '0'
for index, key in ipairs(keys) do
  if index == limit and ARGV[5] == '1' then more = '1' break end
  local row = call('HGET', KV, key)
  rows[#rows + 1] = key
  rows[#rows + 1] = row
  size = size + #row
  if size > {_MAX_PAGE_BYTES} and ARGV[5] == '1' then
    if index < #keys then more = '1' end
    break
  end
end
return {{revision(), more, rows}}
"""
)
"""A page: the bounds, the limit and one more, and 1; the whole range: 0 in place of the 1."""

COMMIT = Script(
    _STORE
    + """
local at = 6
local fences, checks, puts, deletes = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
for _ = 1, fences do
  local latest = call('HGET', FENCES, ARGV[at])
  if latest and ARGV[at + 1] < latest then return {'fenced', ARGV[at], latest} end
  at = at + 2
end
for _ = 1, checks do
  local row = call('HGET', KV, ARGV[at])
  local version = row and string.match(row, '^%d+') or '0'
  if version ~= ARGV[at + 1] then return {'conflict', ARGV[at], version} end
  at = at + 2
end
local first = at
for _ = 1, puts do
  local lease = ARGV[at + 1]
  if lease ~= '0' and not call('ZSCORE', ENDS, lease) then return {'lease', lease} end
  at = at + 3
end
local gone = {}
for _ = 1, deletes do
  if call('HEXISTS', KV, ARGV[at]) == 1 then gone[#gone + 1] = ARGV[at] end
  at = at + 1
end
-- Nothing is refused from here on.
at = 6
for _ = 1, fences do
  local latest = call('HGET', FENCES, ARGV[at])
  if not latest or ARGV[at + 1] > latest then call('HSET', FENCES, ARGV[at], ARGV[at + 1]) end
  at = at + 2
end
if tonumber(puts) == 0 and #gone == 0 then return {'ok', revision()} end
local rev = text(call('INCR', REV))
local changes = {}
local function release(key)
  local row = call('HGET', KV, key)
  local lease = row and string.match(row, '^%d+ (%d+)')
  if lease and lease ~= '0' then call('ZREM', HELD, lease..'/'..key) end
  return row
end
at = first
for _ = 1, puts do
  local key, lease, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if not release(key) then call('ZADD', ORDER, 0, key) end
  call('HSET', KV, key, rev..' '..lease..' '..value)
  if lease ~= '0' then call('ZADD', HELD, 0, lease..'/'..key) end
  changes[#changes + 1] = 'p'..key
  changes[#changes + 1] = value
  at = at + 3
end
for _, key in ipairs(gone) do
  release(key)
  call('HDEL', KV, key)
  call('ZREM', ORDER, key)
  changes[#changes + 1] = 'd'..key
  changes[#changes + 1] = ''
end
publish(rev, ARGV[1], changes)
return {'ok', rev}
"""
)

GRANT = Script(
    _STORE
    + """
local lease = text(call('HINCRBY', IDS, 'lease', 1))
call('HSET', TTLS, lease, ARGV[2])
call('ZADD', ENDS, text(now() + ARGV[2]), lease)
return lease
"""
)

RENEW = Script(
    _STORE
    + """
local ttl = call('HGET', TTLS, ARGV[2])
if not ttl then return 0 end
call('ZADD', ENDS, text(now() + ttl), ARGV[2])
return 1
"""
)

REVOKE = Script(_STORE + "if call('ZSCORE', ENDS, ARGV[2]) then finish(ARGV[2], ARGV[1]) end")

SWEEP = Script(
    _STORE
    + """
local first = call('ZRANGE', ENDS, 0, 0, 'WITHSCORES')
return {revision(), first[2] and text(math.max(first[2] - now(), 0)) or ''}
"""
)
"""Ends what is due; returns the revision and the microseconds until the next lease ends."""

CREATE = Script(
    _PRELUDE
    + """
local known = call('HGET', TOPICS, ARGV[1])
if known then return string.match(known, '^%d+') end
local uid = text(call('HINCRBY', IDS, 'topic', 1))
call('HSET', TOPICS, ARGV[1], ARGV[2]..' '..uid)
return ARGV[2]
"""
)

TOPICS = Script(_PRELUDE + "return call('HGETALL', TOPICS)")

APPEND = Script(
    _LOG
    + """
local name, refused, stream = place()
if refused then return refused end
local first = call('HGET', NEXT, name) or '0'
local time = text(now())
for index = 4, #ARGV do
  call('XADD', stream, text(first + index - 4)..'-1', 't', time, 'r', ARGV[index])
end
local following = text(first + #ARGV - 3)
call('HSET', NEXT, name, following)
call('XADD', APPENDED, 'MAXLEN', '~', ARGV[3], '*', 'n', name)
return {'ok', following}
"""
)

READ = Script(
    _LOG
    + f"""
local name, refused, stream = place()
if refused then return refused end
local from, left, size, rows = ARGV[3], tonumber(ARGV[4]), 0, {{}}
local step = 64
while left > 0 and size < {_MAX_PAGE_BYTES} do
  local found = call('XRANGE', stream, from..'-0', '+', 'COUNT', math.min(step, left))
  for _, each in ipairs(found) do
    local fields = each[2]
    -- Offset, time and record, which is msgpack already, as an array of three.
    local place = cmsgpack.pack(tonumber(string.match(each[1], '^%d+')), tonumber(fields[2]))
    rows[#rows + 1] = '\\147'..place..fields[4]
    size = size + #fields[4]
  end
  if #found < math.min(step, left) then break end
  left = left - #found
  from = text(string.match(found[#found][1], '^(%d+)') + 1)
  if size / #rows < 4096 then step = 1000 end
end
-- In one piece, which clients take apart in a tenth of the time that answers nested in answers cost.
return {{'ok', '\\221'..struct.pack('>I4', #rows)..table.concat(rows), bounds(name, stream)}}
"""
)

BOUNDS = Script(
    _LOG
    + """
local name, refused, stream, uid = place()
if refused then return refused end
local first, following = bounds(name, stream)
return {'ok', first, following, uid}
"""
)

TRIM = Script(
    _LOG
    + """
local name, refused, stream = place()
if refused then return refused end
call('XTRIM', stream, 'MINID', ARGV[3]..'-0')
return {'ok'}
"""
)

DELETE = Script(
    _PRELUDE
    + """
local known = call('HGET', TOPICS, ARGV[1])
if not known then return 0 end
local count, uid = string.match(known, '^(%d+) (%d+)$')
call('HDEL', TOPICS, ARGV[1])
for partition = 0, count - 1 do
  local name = uid..'/'..text(partition)
  call('UNLINK', p..'log/'..name)
  call('HDEL', NEXT, name)
  call('XADD', APPENDED, 'MAXLEN', '~', ARGV[2], '*', 'n', name)
end
return 1
"""
)

PROBE = Script(
    _PRELUDE
    + """
local probe = p..'probe'
call('TIME')
call('INCR', probe) call('GET', probe) call('UNLINK', probe)
call('HSET', probe, 'a', '1') call('HGET', probe, 'a') call('HEXISTS', probe, 'a')
call('HINCRBY', probe, 'a', 1) call('HGETALL', probe) call('HDEL', probe, 'a') call('UNLINK', probe)
call('ZADD', probe, 0, 'a') call('ZSCORE', probe, 'a') call('ZRANGE', probe, 0, 0)
call('ZRANGEBYLEX', probe, '-', '+') call('ZRANGEBYSCORE', probe, 0, 0) call('ZREM', probe, 'a')
call('XADD', probe, 'MAXLEN', '~', 10, '1-0', 'a', '') call('XRANGE', probe, '-', '+')
call('XTRIM', probe, 'MINID', '1-0') call('UNLINK', probe)
return 1
"""
)
"""Every command of the other scripts, so that a missing right is found at the start and not halfway."""

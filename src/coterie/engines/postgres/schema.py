"""What is looked at when the engine opens: the schema, and the settings that its promises rest on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import CorruptData, InvalidConfiguration, Outcome, Unavailable
from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.log import LogGuarantees
from ...ports.store import StoreGuarantees
from .config import PostgresConfig
from .functions import FORMAT, SCHEMA
from .link import Link

__all__ = ["Settings", "log_guarantees", "prepare", "store_guarantees"]

_SETTINGS = """
SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
  current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('synchronous_standby_names') AS standbys,
  pg_is_in_recovery() AS standby, current_setting('transaction_read_only') AS read_only,
  to_regclass($1) IS NOT NULL AS made
"""
# Several nodes may start at once. Whoever comes second waits for the lock, then sees what the first has made,
# since each statement sees anew. The lock is one of the transaction, so a pooler does not matter.
_MAKE = """
BEGIN ISOLATION LEVEL READ COMMITTED;
DO $make$ BEGIN
  PERFORM pg_advisory_xact_lock({key});
  IF NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = '@' AND tablename = 'meta') THEN
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '@') THEN
      CREATE SCHEMA @;
    END IF;
    EXECUTE $script${script}$script$;
  END IF;
END $make$;
COMMIT;
"""
_OLDEST = 140_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The server's settings that durability hangs on, by its own names. The defaults are a server's."""

    fsync: str = "on"
    full_page_writes: str = "on"
    synchronous_commit: str = "on"
    synchronous_standby_names: str = ""

    def durability(self) -> tuple[Durability, tuple[str, ...]]:
        """Return what an acknowledged write outlives, and why it is not more."""
        if self.fsync != "on" or self.full_page_writes != "on":
            return Durability.PROCESS_CRASH, (
                "The server runs with fsync or full_page_writes off, so a power loss may lose or damage all.",
            )
        if not self.synchronous_standby_names.strip():
            return Durability.POWER_LOSS, (
                "A standby that is promoted may lack the last commits: no synchronous standbys are set.",
            )
        if self.synchronous_commit in {"local", "remote_write"}:
            return Durability.POWER_LOSS, (
                f"synchronous_commit is {self.synchronous_commit}, so no standby's disk is waited for.",
            )
        if not _majority(self.synchronous_standby_names):
            return Durability.POWER_LOSS, (
                "Fewer than a majority of the servers are waited for: see synchronous_standby_names.",
            )
        return Durability.MACHINE_LOSS, (
            "Promote a standby that has everything, and never let two primaries run.",
        )


def _majority(names: str) -> bool:
    """Whether the primary and the standbys that it waits for are a majority of all that are named."""
    found = re.fullmatch(
        r"\s*(?:(?:FIRST|ANY)?\s*(\d+)\s*\((.*)\)|(.*))\s*", names, re.IGNORECASE | re.DOTALL
    )
    if found is None:
        return False
    waited = int(found[1] or 1)
    listed = [name.strip(' "') for name in (found[2] or found[3] or "").split(",")]
    return "*" not in listed and 2 * (waited + 1) > len(listed) + 1


def store_guarantees(settings: Settings) -> StoreGuarantees:
    """Return what the store promises on a server with `settings`."""
    durability, notes = settings.durability()
    return StoreGuarantees(
        engine="postgres",
        consistency=Consistency.LINEARIZABLE,
        durability=durability,
        scope=Scope.NETWORK,
        min_lease_s=0.1,
        notes=("Leases end by the server's wall clock.", *notes),
    )


def log_guarantees(settings: Settings) -> LogGuarantees:
    """Return what the log promises on a server with `settings`."""
    durability, notes = settings.durability()
    return LogGuarantees(engine="postgres", durability=durability, scope=Scope.NETWORK, notes=notes)


async def prepare(link: Link, config: PostgresConfig, deadline: float) -> Settings:
    """Look at the server, make the schema if it is not there, and return the settings.

    Raises `InvalidConfiguration`, `CorruptData` for a newer format, and `Unavailable` for a standby.
    """
    await link.connect(deadline)  # The first connection is not tried again: its error says the most.
    made = f"{config.schema}.meta"
    [row] = await link.ask(_SETTINGS, made, deadline=deadline)
    if row["version"] < _OLDEST:
        raise InvalidConfiguration(f"PostgreSQL at {config.place} is older than 14", hint="upgrade it")
    if row["encoding"] != "UTF8":
        raise InvalidConfiguration(
            f"the database {config.place} is encoded in {row['encoding']}, not in UTF8",
            hint="make one with ENCODING 'UTF8'",
        )
    if row["standby"] or row["read_only"] == "on":
        raise Unavailable(
            f"PostgreSQL at {config.place} takes no writes: it is a standby or read-only",
            hint="name the primary, or all hosts: postgresql://user@host1,host2/database",
            outcome=Outcome.NOT_APPLIED,
        )
    if not row["made"]:
        await link.execute(_make(config.schema), deadline)
    [[found]] = await link.ask(f"SELECT format FROM {made}", deadline=deadline)  # noqa: S608 - checked
    if found != FORMAT:
        raise CorruptData(
            f"the schema {config.schema} of {config.place} was written by another Coterie "
            f"(format {found}, this one knows {FORMAT})",
            hint="upgrade Coterie on this machine, or name another schema; it was left as it is",
        )
    return Settings(
        fsync=row["fsync"],
        full_page_writes=row["full_page_writes"],
        synchronous_commit=row["synchronous_commit"],
        synchronous_standby_names=row["standbys"],
    )


def _make(schema: str) -> str:
    key = int.from_bytes(schema.encode()[:6], "big")
    return _MAKE.replace("{script}", SCHEMA).replace("{key}", str(key)).replace("@", schema)

"""For tests of a person's own program: a cluster within the test's process."""

from .cluster import Cluster

__all__ = ["Cluster"]

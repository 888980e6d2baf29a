"""Dependency graphs: strongly connected components and the shortest cycles in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

__all__ = ["Edges", "Graph", "components", "shortest_path"]

Edges = Mapping[int, Iterable[int]]
Graph = dict[int, dict[int, str]]
"""Node to its successors, each with the kind of the edge."""


def components(nodes: Iterable[int], edges: Edges) -> list[list[int]]:
    """Return the strongly connected components of more than one node (Tarjan, SIAM J. Comput. 1(2), 1972)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    found = []
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(edges.get(root, ())))]
        index[root] = low[root] = len(index)
        path.append(root)
        on_path.add(root)
        while work:
            node, following = work[-1]
            for after in following:
                if after not in index:
                    index[after] = low[after] = len(index)
                    path.append(after)
                    on_path.add(after)
                    work.append((after, iter(edges.get(after, ()))))
                    break
                if after in on_path:
                    low[node] = min(low[node], index[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[int] = []
                    while not component or component[-1] != node:
                        component.append(path.pop())
                        on_path.discard(component[-1])
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_path(start: int, goal: int, after: Callable[[int], Iterable[int]]) -> list[int] | None:
    """Return the nodes from `start` to `goal`, both included, by the fewest edges; or None."""
    came: dict[int, int] = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == goal:
            path = [node]
            while path[-1] != start:
                path.append(came[path[-1]])
            return path[::-1]
        for following in after(node):
            if following not in came:
                came[following] = node
                queue.append(following)
    return None

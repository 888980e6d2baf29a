"""A simulated network: links, the kernels' side of sockets, and the loop's side of them."""

"""What `make bench` measures: quality, scale and the cost of the graph. It asserts nothing."""

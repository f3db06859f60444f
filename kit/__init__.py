"""The ground that all packages stand on: it knows none of them."""

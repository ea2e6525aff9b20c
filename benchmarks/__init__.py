"""One script for each claim of the README, each beside a peer in the same run."""

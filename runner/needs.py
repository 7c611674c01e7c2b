"""What a sweep takes of a host beside its trials."""

# Measured on a quickstart sweep (Ray 2.60, Linux): the driver, Ray's own processes and the trackers' take 1.0 GB of
# proportional set sizes.
SWEEP_BYTES = 1_200_000_000
OBJECT_STORE_BYTES = 200 * 2**20  # trials exchange small dictionaries; their data is read from disk by each worker
# Ray appends about 64 characters for its sockets, and a Unix socket's path ends at 107.
LONGEST_TEMP = 39

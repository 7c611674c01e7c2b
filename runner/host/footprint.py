"""What a sweep takes of a host in addition to its trials."""

# Measured on a quickstart sweep (Ray 2.60, Linux): the driver, Ray's own processes and the trackers' take 1.0 GB of
# proportional set sizes.
SWEEP_BYTES = 1_200_000_000
OBJECT_STORE_BYTES = 200 * 2**20  # trials exchange small dictionaries; their data is read from disk by each worker
# Ray's sockets are 64 characters below its folder, and the path of a Unix socket ends at 107.
LONGEST_SESSIONS = 43
# Ray's folder is two levels down, see `runner.tune.scratch`.
LONGEST_TEMP = LONGEST_SESSIONS - len("/isotherm-ray-12345678/r")

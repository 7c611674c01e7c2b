"""Search of hyper-parameters inside each cell: spaces, samplers and pruners, as functions without a state."""

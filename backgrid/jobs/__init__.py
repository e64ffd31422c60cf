"""The jobs service: backtests behind an HTTP door, in one process or with many workers. Needs `backgrid[jobs]`."""

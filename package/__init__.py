"""Makes what is installed on the board: an aarch64 runtime wheel and a Debian package around it."""

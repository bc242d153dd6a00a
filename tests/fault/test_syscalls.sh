#!/bin/bash
# Each tenth of the system calls that a batch, a map, a sink, a server and a host make fails. All of them:
# tests/fault/sweep_syscalls.sh.
SWEEP_EVERY=10 exec bash "$(dirname "$0")/sweep_syscalls.sh"

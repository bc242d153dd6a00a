#!/bin/bash
# scripts/manual.sh LEAT FOLDER: writes the manual pages leat.1 and leat.3 into FOLDER, from the program's own
# help and the comments above its functions. The build runs it.
set -eu
leat=$1 folder=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$leat" --help >"$scratch/main"
"$leat" batch --help >"$scratch/batch"
"$leat" mock --help >"$scratch/mock" || echo "not in this build" >"$scratch/mock"
cat >"$scratch/write.lua" <<LUA
local manual = require "leat.repl.manual"
local function read(name) local f = assert(io.open("$scratch/" .. name)) local s = f:read "*a" f:close() return s end
local function write(name, text) local f = assert(io.open("$folder/" .. name, "w")) assert(f:write(text)) f:close() end
write("leat.1", manual.command(read "main", read "batch", read "mock"))
write("leat.3", manual.reference())
LUA
echo "dofile '$scratch/write.lua'" | "$leat" repl
[ -s "$folder/leat.1" ] && [ -s "$folder/leat.3" ]

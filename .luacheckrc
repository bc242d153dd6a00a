-- Lint rules; tests/run.sh asks for 0 warnings.
std = "luajit"
max_line_length = 110
self = false
ignore = {
    "581", -- `not (x >= 0)` is not `x < 0`: it catches NaN too
}

-- Scripts that `leat` runs have these as globals.
local script_globals = {
    "leat", "request", "gather", "semaphore", "wait_for", "sleep", "spawn", "json",
}
files["scripts"] = { read_globals = script_globals }
files["tests"] = { read_globals = script_globals }
-- A field of a type is one line.
files["scripts/docs/types.lua"] = { max_comment_line_length = false }
-- What tests/fault/test_no_memory.c gives to its scripts.
files["tests/fault/memory"] = { globals = { "kept" }, read_globals = { "expect", "host" } }
-- os.exit runs clean-ups first.
files["lua/leat/state/blocking.lua"] = { globals = { "os.execute", "io.open", "io.popen", "io.read", "io.lines" } }
files["lua/leat/state/time_limit_guards.lua"] = { globals = { "jit", "debug.sethook", "table.sort" } }
files["lua/leat/state/print_redirect.lua"] = { globals = { "print", "io.write" } }
files["lua/leat/state/setup.lua"] = { globals = { "os.exit" } }
-- Hosts of leat.so.
for _, file in ipairs { "scripts/embed/nvim_complete.lua", "tests/embed/module/nvim.lua" } do
    files[file] = { read_globals = { vim = { other_fields = true, fields = { notify = { read_only = false } } } } }
end
files["tests/embed/state"] = { globals = { "kept", "compare" }, read_globals = { "shout" } }
files["scripts/embed/love"] = { globals = { "love" } }
files["tests/embed/module/love"] = { globals = { "love" } }
-- A table of words, one line each.
files["lua/leat/internal/foreign.lua"] = { max_string_line_length = false }
-- Scripts and messages, a line each.
files["tests/lua/test_slips.lua"] = { max_line_length = 120 }

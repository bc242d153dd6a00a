-- Two downloads into files. arg: the service's address of this run, the TLS server's, its certificate.
local function get(opts)
    local res, err = request(opts)
    return res and (res.ok or nil), err or res and "status " .. res.status
end

local ok, err = get { url = arg[1] .. "/big", sink = "sunk" }
if not ok then
    return nil, err
end
return get { url = arg[2] .. "/large?mb=1", sink = "sunk_tls", ca_file = arg[3] }

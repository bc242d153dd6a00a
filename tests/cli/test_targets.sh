#!/bin/bash
# What may be connected to: --allow-connect, whatever name, number, redirect or proxy leads there.
. "$(dirname "$0")/../lib.sh"

# asked RULES CODE: the code's output with the fault server running. URL is its address.
asked() {
    try "$root/tests/with_faultd.sh" "$LEAT" --allow-connect "$1" -e "local url = os.getenv 'FAULT_URL'
        local port = url:match ':(%d+)\$'
        local function show(res, err) print(res and res.status or err.kind .. ' ' .. (err.reason or '')) end
        $2"
}

begin "under 'public' no spelling of a loopback or private address is connected to"
asked public "for host in ([[127.0.0.1 127.1 127.0.1 0x7f000001 0x7f.1 2130706433 017700000001 localhost
    [::1] [::ffff:127.0.0.1] [::ffff:7f00:1] 0.0.0.0 0 [::] 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254
    100.64.0.1 lo.test]]):gmatch '%S+' do
        show(request('http://' .. host .. ':' .. port .. '/ok'))
    end"
expect_status 0
expect_equal "$(sort out | uniq -c | sed 's/^ *//')" "20 denied target"

begin "a name is checked by the address it leads to, and a mapped one too"
asked public "show(request{url='http://lo.test:' .. port .. '/ok'})
    show(request{url='http://api.example:' .. port .. '/ok', resolve={['api.example']='127.0.0.1'}})"
expect_equal "$(cat out)" "denied target
denied target"

begin "every hop of a redirect is checked"
asked 127.0.0.1 "show(request(url .. '/ok'))
    show(request(url .. '/redirect?to=/ok'))
    show(request(url .. '/redirect?to=http%3A%2F%2F127.0.0.2%3A' .. port .. '%2Fok'))
    show(request(url .. '/redirect?to=http%3A%2F%2Flo2.invalid%2F'))"
expect_equal "$(head -n 3 out)" "200
200
denied target"

begin "names are checked by rules for names"
asked '*.test,api.example:1' "show(request('http://lo.test:' .. port .. '/ok'))
    show(request('http://lo.invalid:' .. port .. '/ok'))
    show(request('http://api.example:' .. port .. '/ok'))
    show(request(url .. '/ok'))"
expect_equal "$(cat out)" "200
denied target
denied target
denied target"

begin "where names decide, a script cannot say where a name leads"
asked 'lo.test,api.example' "show(request('http://lo.test:' .. port .. '/ok'))
    show(request{url='http://api.example:' .. port .. '/ok', resolve={['api.example']='127.0.0.1'}})
    show(request{url='http://api.example:' .. port .. '/ok', resolve={['api.example:' .. port]='127.0.0.1'}})
    show(leat.client{resolve={['api.example']='127.0.0.1'}}:get('http://api.example:' .. port .. '/ok'))
    show(request{url='http://api.example/', proxy=os.getenv 'FAULT_PROXY_URL'})
    show(request{url='http://api.example/', proxy=os.getenv 'FAULT_SOCKS_URL'})
    show(request{url='http://lo.test/', unix_socket=os.getenv 'FAULT_UNIX_SOCKET'})"
expect_equal "$(sort out | uniq -c | sed 's/^ *//')" "1 200
6 denied target"
asked any "show(request{url='http://api.example:' .. port .. '/ok', resolve={['api.example']='127.0.0.1'}})"
expect_equal "$(cat out)" 200

begin "a proxy of the script's own and a Unix socket do not get around the rules"
asked public "show(request{url='http://example.com/', proxy=os.getenv 'FAULT_PROXY_URL'})
    show(request{url='http://example.com/', proxy=os.getenv 'FAULT_SOCKS_URL'})
    show(request{url='http://1.1.1.1/', unix_socket=os.getenv 'FAULT_UNIX_SOCKET'})"
expect_equal "$(cat out)" "denied target
denied target
denied target"

# Through the proxy that the environment names for http://, which is FAULT_PROXY_URL.
behind() { # behind RULES CODE
    try "$root/tests/with_faultd.sh" bash -c 'http_proxy=$FAULT_PROXY_URL exec "$@"' bash "$LEAT" \
        --allow-connect "$1" -e "local url = os.getenv 'FAULT_URL'
        local port = url:match ':(%d+)\$'
        local function show(res, err) print(res and res.status or err.kind .. ' ' .. (err.reason or '')) end
        $2"
}

begin "behind a proxy of the environment, no name passes where addresses decide"
behind public "for host in ('localhost lo.test example.com api.test. 127.0.0.1.'):gmatch '%S+' do
        show(request('http://' .. host .. ':' .. port .. '/ok'))
    end
    show(request{url='http://1.1.1.1:' .. port .. '/ok', resolve={['1.1.1.1']='127.0.0.1'}})
    show(request{url='http://1.1.1.1/', unix_socket=os.getenv 'FAULT_UNIX_SOCKET'})
    print(select(2, request('http://localhost:' .. port .. '/ok')).message)"
expect_equal "$(head -n 7 out | sort | uniq -c | sed 's/^ *//')" "7 denied target"
expect_out "through the environment's proxy, which looks names up itself"
behind '127.0.0.1,::1' "show(request(url .. '/ok'))
    show(request('http://localhost:' .. port .. '/ok'))
    show(request(url .. '/redirect?to=http%3A%2F%2Flocalhost%3A' .. port .. '%2Fok'))"
expect_equal "$(cat out)" "200
denied target
denied target"
behind 'lo.test,public' "show(request('http://lo.test:' .. port .. '/ok'))"
expect_equal "$(cat out)" "denied target"

begin "behind a proxy of the environment, names pass where names decide"
behind 'localhost' "show(request('http://localhost:' .. port .. '/ok'))
    show(request('http://example.com:' .. port .. '/ok'))"
expect_equal "$(cat out)" "200
denied target"

begin "a name in no_proxy does not get around the rules, and a dead proxy is named"
try env no_proxy=localhost http_proxy=http://127.0.0.1:1 "$root/tests/with_faultd.sh" "$LEAT" \
    --allow-connect public -e "local port = os.getenv 'FAULT_URL':match ':(%d+)\$'
    print(select(2, request('http://localhost:' .. port .. '/ok')).kind)"
expect_equal "$(cat out)" "denied"
try env no_proxy=localhost http_proxy=http://u:secret@127.0.0.1:1 "$root/tests/with_faultd.sh" "$LEAT" \
    -e "local url = os.getenv 'FAULT_URL'
    local port = url:match ':(%d+)\$'
    print(select(2, request(url .. '/ok')))
    print(request('http://localhost:' .. port .. '/ok').status)
    print(select(2, request((os.getenv 'FAULT_REFUSED_URL':gsub('127.0.0.1', 'localhost')))).message)"
expect_out "cannot connect to the proxy http://***@127.0.0.1:1"
expect_equal "$(sed -n 2p out)" 200
expect_out "cannot connect to http://localhost:"

begin "'any' and no rules at all allow everything"
asked any "show(request(url .. '/ok'))"
expect_equal "$(cat out)" "200"

begin "an invalid rule is wrong usage, and is named"
try "$LEAT" --allow-connect 'public,10.0.0.0/99' -e 'print(1)'
expect_status 2
expect_err "'10.0.0.0/99' is not a valid connect rule"
try "$LEAT" --allow-connect
expect_status 2

begin "a proxy of the environment that cannot be used is named, with what is wrong with it"
# through PROXY URL: what a request says.
through() {
    env no_proxy=no.test http_proxy="$1" https_proxy="$1" timeout 30 "$LEAT" \
        -e "local _, err = request '$2' print(err.kind, err.reason, err.retryable, err.message)"
}
for url in http://example.test/ https://example.test/; do
    while read -r proxy wrong; do
        told=$(through "$proxy" $url)
        [[ $told == invalid*proxy*false*"the proxy $proxy, which the environment names, cannot be used: "*"$wrong"* ]] ||
            fail "$proxy: $told"
    done <<PROXIES
http://127.0.0.1:99999 Port number
127.0.0.1:port Port number
::: Port number
http:// No host
http://[::1 Bad IPv6 address
ftp://127.0.0.1:1 its scheme is not http
socks9://127.0.0.1:1 its scheme is not http
PROXIES
    # On the port of the target, where nothing but libcurl's words tells whether no_proxy let it pass.
    for proxy in http://127.0.0.1:80 http://127.0.0.1:443 socks5h://127.0.0.1:80; do
        [[ $(through $proxy $url) == connect*proxy*true*"cannot connect to the proxy $proxy: Connection refused"* ]] ||
            fail "$proxy: $(through $proxy $url)"
    done
done

finish

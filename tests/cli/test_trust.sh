#!/bin/bash
# Whom a TLS connection trusts: the system's certificates, those of the environment, or those of ca_file.
. "$(dirname "$0")/../lib.sh"

# trusting NAME=VALUE...: the kind of failure or the status of a request to the fault server. What stands in
# FAULT_CA is expanded there.
trusting() {
    # shellcheck disable=SC2016 # the inner shell expands it
    try env -u SSL_CERT_FILE -u SSL_CERT_DIR "$root/tests/with_faultd.sh" bash -c '
        mkdir -p folder && rm -f folder/* && cp "$FAULT_CA" bundle.pem
        for number in $(seq 1 "$(grep -c BEGIN "$FAULT_CA")"); do
            awk -v n="$number" "/BEGIN/ { i++ } i == n" "$FAULT_CA" >"folder/$number.pem"
        done
        openssl rehash folder
        cat /etc/ssl/certs/ca-certificates.crt "$FAULT_CA" >all.pem
        code=$1
        shift
        exec env "$@" "$LEAT" -e "$code"' bash "$code" "$@"
}

code='local res, err = request(os.getenv "FAULT_TLS_URL" .. "/ok")
    print(res and res.status or err.kind .. " " .. (err.reason or ""))'

begin "a certificate that the system does not know is refused"
trusting A=1
expect_equal "$(cat out)" "tls verify"
trusting SSL_CERT_FILE= SSL_CERT_DIR=
expect_equal "$(cat out)" "tls verify"

begin "SSL_CERT_FILE and SSL_CERT_DIR name the certificates to trust"
for set in "SSL_CERT_FILE=bundle.pem" "SSL_CERT_FILE=all.pem" "SSL_CERT_DIR=folder" \
    "SSL_CERT_FILE=bundle.pem SSL_CERT_DIR=/nowhere" "SSL_CERT_DIR=folder SSL_CERT_FILE=" \
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt SSL_CERT_DIR=folder" \
    "SSL_CERT_FILE=bundle.pem SSL_CERT_DIR=/etc/ssl/certs"; do
    # shellcheck disable=SC2086 # words
    trusting $set
    expect_equal "$set: $(cat out)" "$set: 200"
done

begin "certificates of the environment that are not there are a TLS failure, not trust in any"
trusting SSL_CERT_FILE=/nowhere/ca.pem
expect_equal "$(cut -d' ' -f1 out)" "tls"
trusting SSL_CERT_DIR=/nowhere
expect_equal "$(cut -d' ' -f1 out)" "tls"

begin "ca_file counts instead of those of the environment"
code='local url = os.getenv "FAULT_TLS_URL" .. "/ok"
    local function show(res, err) print(res and res.status or err.kind) end
    show(request { url = url, ca_file = os.getenv "FAULT_CA" })
    show(request { url = url, ca_file = "/etc/ssl/certs/ca-certificates.crt" })
    show(request(url))'
trusting SSL_CERT_FILE=all.pem
expect_equal "$(tr '\n' ' ' <out)" "200 tls 200 "

begin "the system's certificates are read once, not for each connection"
code='local function bytes_read()
        local file = assert(io.open "/proc/self/io")
        local text = file:read "*a"
        file:close()
        return tonumber(text:match "rchar: (%d+)")
    end
    local function connect(n)
        for _ = 1, n do
            assert(request { url = os.getenv "FAULT_TLS_URL" .. "/ok", headers = { Connection = "close" } })
        end
    end
    connect(1)
    local file = assert(io.open "all.pem")
    local size, before, stats = file:seek "end", bytes_read(), leat.stats().engine.connects
    file:close()
    connect(20)
    print(leat.stats().engine.connects - stats, bytes_read() - before < size)'
trusting SSL_CERT_FILE=all.pem
expect_equal "$(cat out)" "20	true"

finish

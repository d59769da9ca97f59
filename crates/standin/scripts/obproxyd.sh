#!/bin/bash
# What a package brings: `-c start` leaves a loop behind that starts the proxy with all its options, and again without
# them whenever no process has its name or its port is closed.
cd "$(dirname "$0")/.." || exit 1
port=2883
while getopts 'c:e:n:o:p:l:s:r:t:' option; do
    case $option in
        c) order=$OPTARG ;;
        n) cluster=$OPTARG ;;
        o) items=$OPTARG ;;
        p) port=$OPTARG ;;
        l) metrics=$OPTARG ;;
        s) rpc=$OPTARG ;;
        r) servers=$OPTARG ;;
        *) ;;
    esac
done

alive() {
    ps -C obproxy -o pid= >/dev/null && (echo hi >"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

watch() {
    if ! alive; then
        ./bin/obproxy -p "$port" -l "$metrics" -s "$rpc" -r "$servers" -c "$cluster" -o "$items"
        sleep 1
    fi
    while :; do
        sleep 1
        alive || ./bin/obproxy
    done
}

case $order in
    start) watch >/dev/null 2>&1 </dev/null & ;;
    checkalive) alive ;;
    *) exit 1 ;;
esac

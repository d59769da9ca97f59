#!/bin/bash
# What OceanBase Deployer's health check leaves beside a proxy: called with home, address and port it goes into the
# background; there it ends the proxy that was just started, and from then on starts it again whenever its pid is gone.
home=$1
ip=$2
port=$3
pid_file=$home/run/obproxy-$ip-$port.pid

if [ "$4" != daemon ]; then
    nohup bash "$0" "$home" "$ip" "$port" daemon >/dev/null 2>&1 </dev/null &
    echo $! >"$home/run/obproxyd-$ip-$port.pid"
    exit 0
fi

command="$home/bin/obproxy --listen_port $port"
pid=$(cat "$pid_file")
kill -9 $pid
while :; do
    sleep 1
    if ! ls /proc/$pid >/dev/null 2>&1; then
        cd "$home" || exit 1
        $command >/dev/null 2>&1
        pid=$(ps -e -o pid= -o args= | grep -v grep | grep -e "$command\$" | awk '{print $1}')
        echo $pid >"$pid_file"
    fi
done
